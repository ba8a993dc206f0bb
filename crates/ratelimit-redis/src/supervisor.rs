//! The background task that keeps the connection: it reconnects with back-off, sends the heartbeats of this
//! replica, by default every second, and probes the store five times a second while the circuit is open. It
//! ends when the store is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep, timeout};
use vmcp_ratelimit::StoreFailure;
use vmcp_timing::Backoff;

use crate::connection::{CONNECT_MAX, ClassifiedError, ServerConnection};
use crate::inspect;
use crate::server::{ConnectionState, Server, log_error, within_deadline};

/// The pause between probes while the circuit is open.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
/// The first and the longest pause between attempts to connect: a store that is back is found within a
/// second.
const RECONNECT_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(300));
/// After this many unanswered heartbeats in a row a new connection is opened: the old one may be dead.
const MISSED_HEARTBEAT_COUNT_MAX: u32 = 3;
/// A replica counts as alive for this many heartbeats after its last one.
const HEARTBEATS_UNTIL_GONE: u32 = 10;
/// After this many heartbeats the server is asked again for settings that would grant fresh budgets: they can
/// be changed while it runs.
const INSPECT_EVERY_HEARTBEATS: u32 = 10;

/// Keeps the connection until the task is aborted.
pub(crate) async fn run(server: Arc<Server>) {
    let replica = generate_replica_id();
    let mut backoff = Backoff::new(RECONNECT_PAUSES.0, RECONNECT_PAUSES.1);
    for generation in 1.. {
        match connect(&server, generation, &replica).await {
            Ok(connection) => {
                server.set_state(ConnectionState::Up(connection.clone()));
                tracing::info!("the shared rate limit store answers");
                backoff.reset();
                inspect_server(&server, &connection).await;
                monitor(&server, &connection, &replica).await;
                server.set_state(ConnectionState::Connecting);
                tracing::warn!("the connection to the shared rate limit store is lost");
            }
            Err(failure) => {
                if generation == 1 {
                    tracing::warn!(
                        failure = failure.label(),
                        "the shared rate limit store cannot be reached"
                    );
                }
                server.set_state(ConnectionState::Down(failure));
            }
        }
        sleep(backoff.next_delay()).await;
    }
}

/// Opens a connection, and checks with a heartbeat that a write works over it.
async fn connect(server: &Server, generation: u64, replica: &str) -> Result<ServerConnection, StoreFailure> {
    // Servers of a cluster and sentinels are tried one after the other, each within the limit of one attempt.
    let opened = timeout(4 * CONNECT_MAX, Box::pin(ServerConnection::open(&server.policy, generation))).await;
    let connection = match opened {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            log_error(&error, generation == 1);
            return Err(ClassifiedError::classify(&error).failure);
        }
        Err(_) => return Err(StoreFailure::Timeout),
    };
    send_heartbeat(server, &connection, replica).await?;
    Ok(connection)
}

/// Sends the heartbeat of this replica, and records what the server replies.
async fn send_heartbeat(
    server: &Server,
    connection: &ServerConnection,
    replica: &str,
) -> Result<(), StoreFailure> {
    let silence = server.policy.heartbeat() * HEARTBEATS_UNTIL_GONE;
    let call = server.scripts.heartbeat(replica, silence.as_millis().max(1));
    let answer = within_deadline(server.policy.deadline(), server.send(connection, &call)).await;
    let outcome = answer.unwrap_or(Err(StoreFailure::Timeout));
    server.record_outcome(outcome.as_ref().err());
    if let Some(HeartbeatReply { replica_count: count, server_time: time, key_age, blocks }) =
        parse_heartbeat_reply(&outcome?)
    {
        server.blocks.replace(blocks);
        server.key_age.set(key_age);
        server.replica_count.store(u32::try_from(count).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
        let now = Instant::now();
        let noted = server.server_time.record(time, now);
        // A reply may be as late as the deadline, and a bucket must earn only for time that has certainly
        // passed.
        let made_up = server.server_time.lag(now).saturating_sub(server.policy.deadline());
        server.scripts.set_step_back(u64::try_from(made_up.as_micros()).unwrap_or(u64::MAX));
        if let Some(step) = noted {
            tracing::warn!(
                seconds = step.as_secs_f64().round(),
                "the clock of the shared rate limit store was set back: buckets keep their levels and refill from there; \
                 slots of killed replicas expire that much later"
            );
        }
    }
    Ok(())
}

/// The server's reply to a heartbeat.
struct HeartbeatReply {
    /// The number of replicas that are alive.
    replica_count: i64,
    /// The server's time since the Unix epoch.
    server_time: Duration,
    /// How long buckets have been kept under their present keys.
    key_age: Duration,
    /// What operators have blocked, and for how much longer.
    blocks: Vec<(String, Duration)>,
}

fn parse_heartbeat_reply(answer: &Value) -> Option<HeartbeatReply> {
    let Value::Array(parts) = answer else { return None };
    let [Value::Int(count), Value::Int(time), Value::Int(age), Value::Array(blocks)] = parts.as_slice()
    else {
        return None;
    };
    let millis = |number: i64| Some(Duration::from_millis(u64::try_from(number).ok()?));
    let time = millis(*time)?;
    let block = |pair: &[Value]| {
        let [name, Value::BulkString(until)] = pair else { return None };
        let until: f64 = std::str::from_utf8(until).ok()?.parse().ok()?;
        let until = Duration::try_from_secs_f64(until / 1000.0).ok()?;
        Some((redis::from_redis_value_ref::<String>(name).ok()?, until.saturating_sub(time)))
    };
    let blocks = blocks.chunks(2).filter_map(block).collect();
    Some(HeartbeatReply { replica_count: *count, server_time: time, key_age: millis((*age).max(0))?, blocks })
}

/// Sends heartbeats over a connection until it is broken or too many of them are unanswered.
async fn monitor(server: &Server, connection: &ServerConnection, replica: &str) {
    let (mut silent, mut beats) = (0, 0);
    let mut failed = false;
    while !server.is_broken(connection) {
        let pause = server.policy.heartbeat();
        let pause = if failed || server.breaker.is_open() { PROBE_PAUSE.min(pause) } else { pause };
        tokio::select! {
            () = sleep(pause) => {}
            // The circuit has opened or the connection is broken: either changes the next step.
            () = server.wake.notified() => continue,
        }
        match send_heartbeat(server, connection, replica).await {
            Ok(()) => {
                if failed {
                    tracing::info!("the shared rate limit store answers again");
                }
                (silent, failed) = (0, false);
                beats += 1;
                if beats % INSPECT_EVERY_HEARTBEATS == 0 {
                    inspect_server(server, connection).await;
                }
            }
            Err(failure) => {
                failed = true;
                silent = if failure == StoreFailure::Refused { 0 } else { silent + 1 };
                if silent >= MISSED_HEARTBEAT_COUNT_MAX {
                    return;
                }
            }
        }
    }
}

/// Warns of settings that would grant fresh budgets, once for as long as they stay.
async fn inspect_server(server: &Server, connection: &ServerConnection) {
    let answer = timeout(CONNECT_MAX, server.send(connection, &server.scripts.inspect())).await;
    let Ok(Ok(Value::BulkString(text))) = answer else { return };
    let found = inspect::warnings(&String::from_utf8_lossy(&text));
    let known = std::mem::replace(&mut *server.warnings.lock(), found.clone());
    for warning in found.iter().filter(|warning| !known.contains(warning)) {
        tracing::warn!("{warning}");
    }
    if found.is_empty() && !known.is_empty() {
        tracing::info!("the settings of the shared rate limit store give out no fresh budgets any more");
    }
}

/// A random identifier of this replica.
fn generate_replica_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness two replicas may have the same identifier and count as one. A replica's share of a
    // limit is then too large, by a bounded amount.
    if getrandom::fill(&mut bytes).is_err() {
        return std::process::id().to_string();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
