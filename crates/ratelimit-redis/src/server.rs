//! Requests to the server: one deadline over everything, the circuit breaker, and the state of the
//! connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use vmcp_ratelimit::{Blocks, StoreConnection, StoreFailure};

use crate::breaker::Breaker;
use crate::connection::{ServerConnection, is_unknown_script};
use crate::policy::RedisPolicy;
use crate::script::{ScriptCall, Scripts};
use crate::server_time::ServerTime;

/// The number of slices in which a deadline is waited for.
const SLICES: u32 = 5;
/// How late a timer fires at most in a process that is not busy.
const TIMER_LATENESS: Duration = Duration::from_millis(2);
/// The multiple of the deadline after which even a busy process stops waiting.
const DEADLINE_FACTOR_MAX: u32 = 10;

/// The state of the connection.
#[derive(Clone)]
pub(crate) enum ConnectionState {
    /// An attempt to connect is in progress and has not failed yet.
    Connecting,
    /// The server accepts writes.
    Up(ServerConnection),
    /// The last attempt failed.
    Down(StoreFailure),
}

/// The age of the keys, which may not be known yet. Each call reads it.
pub(crate) struct KeyAge {
    /// In milliseconds; [`u64::MAX`] while it is not known.
    millis: AtomicU64,
}

impl Default for KeyAge {
    fn default() -> Self {
        Self { millis: AtomicU64::new(u64::MAX) }
    }
}

impl KeyAge {
    pub(crate) fn set(&self, age: Duration) {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX - 1);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// `None` while it is not known.
    pub(crate) fn get(&self) -> Option<Duration> {
        let millis = self.millis.load(Ordering::Relaxed);
        (millis != u64::MAX).then(|| Duration::from_millis(millis))
    }
}

/// The server, as all callers share it.
pub(crate) struct Server {
    pub(crate) policy: RedisPolicy,
    pub(crate) scripts: Scripts,
    pub(crate) breaker: Breaker,
    /// The number of replicas that are alive; zero while that is not known.
    pub(crate) replica_count: AtomicU32,
    /// How long buckets have been kept under their present keys.
    pub(crate) key_age: KeyAge,
    /// The last time that the server's clock showed.
    pub(crate) server_time: ServerTime,
    /// The warnings about the server's settings for operators.
    pub(crate) warnings: Mutex<Vec<String>>,
    /// What operators have blocked.
    pub(crate) blocks: Arc<Blocks>,
    /// Wakes the keeper.
    pub(crate) wake: Notify,
    state: watch::Sender<ConnectionState>,
    /// The newest generation of connections that is broken.
    broken_generation: AtomicU64,
    /// The newest connection that was up: its generation, and when it was opened.
    last_connected: Mutex<Option<(u64, Instant)>>,
}

impl Server {
    pub(crate) fn new(policy: RedisPolicy) -> Self {
        Self {
            scripts: Scripts::new(policy.full_key_prefix()),
            policy,
            breaker: Breaker::default(),
            replica_count: AtomicU32::new(0),
            key_age: KeyAge::default(),
            server_time: ServerTime::default(),
            warnings: Mutex::default(),
            blocks: Blocks::new(),
            wake: Notify::new(),
            state: watch::Sender::new(ConnectionState::Connecting),
            broken_generation: AtomicU64::new(0),
            last_connected: Mutex::new(None),
        }
    }

    /// True while the server answers.
    pub(crate) fn is_available(&self) -> bool {
        !self.breaker.is_open() && matches!(*self.state.borrow(), ConnectionState::Up(_))
    }

    /// The connection that is up, or the last one that was.
    pub(crate) fn store_connection(&self) -> StoreConnection {
        let last_connected = self.last_connected.lock();
        let restored = last_connected.as_ref().filter(|(generation, _)| *generation > 1);
        StoreConnection {
            generation: last_connected.as_ref().map_or(0, |(generation, _)| *generation),
            reconnected_for: restored.map(|(_, at)| at.elapsed()),
        }
    }

    pub(crate) fn set_state(&self, state: ConnectionState) {
        if let ConnectionState::Up(connection) = &state {
            *self.last_connected.lock() = Some((connection.generation, Instant::now()));
        }
        self.state.send_replace(state);
    }

    /// True when this connection, or a newer one, is broken.
    pub(crate) fn is_broken(&self, connection: &ServerConnection) -> bool {
        self.broken_generation.load(Ordering::Acquire) >= connection.generation
    }

    /// Makes one call within the deadline. While the circuit is open, it fails at once.
    pub(crate) async fn call(&self, call: &ScriptCall<'_>) -> Result<Value, StoreFailure> {
        if self.breaker.is_open() {
            return Err(StoreFailure::CircuitOpen);
        }
        let answer = async { self.send(&self.wait_for_connection().await?, call).await };
        let outcome = within_deadline(self.policy.deadline(), answer).await;
        let outcome = outcome.unwrap_or(Err(StoreFailure::Timeout));
        self.record_outcome(outcome.as_ref().err());
        outcome
    }

    /// Records how a request ended.
    pub(crate) fn record_outcome(&self, failure: Option<&StoreFailure>) {
        match failure {
            None => self.breaker.record_success(),
            Some(failure) => {
                if self.breaker.record_failure() {
                    tracing::warn!(
                        failure = failure.label(),
                        "the circuit of the shared rate limit store is open"
                    );
                    self.wake.notify_one();
                }
            }
        }
    }

    /// Sends a call over a connection. If the server does not have the script, a second attempt sends its
    /// text. Nothing else is retried, because a call without a reply may have been executed.
    pub(crate) async fn send(
        &self,
        connection: &ServerConnection,
        call: &ScriptCall<'_>,
    ) -> Result<Value, StoreFailure> {
        let outcome = match connection.send(&call.by_digest()).await {
            Err(error) if is_unknown_script(&error) => connection.send(&call.by_text()).await,
            outcome => outcome,
        };
        outcome.map_err(|error| {
            let classified = connection.classify(&error);
            log_error(&error, self.breaker.is_clear());
            if classified.is_connection_broken
                && self.broken_generation.fetch_max(connection.generation, Ordering::AcqRel)
                    < connection.generation
            {
                self.wake.notify_one();
            }
            classified.failure
        })
    }

    /// The connection, which is waited for while the first attempt to connect is in progress.
    async fn wait_for_connection(&self) -> Result<ServerConnection, StoreFailure> {
        let now = self.state.borrow().clone();
        let settled = match now {
            ConnectionState::Connecting => {
                let mut states = self.state.subscribe();
                let settled = states.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await;
                settled.map_or(ConnectionState::Down(StoreFailure::Disconnected), |state| state.clone())
            }
            ConnectionState::Up(_) | ConnectionState::Down(_) => now,
        };
        match settled {
            ConnectionState::Up(connection) => Ok(connection),
            ConnectionState::Down(failure) => Err(failure),
            ConnectionState::Connecting => Err(StoreFailure::Disconnected),
        }
    }
}

/// Waits for a reply until a deadline. `None` when there is none.
///
/// A busy process may send late, and may see the deadline pass before it has read a reply that has arrived.
/// The process is then woken late. Of each slice, only the time that it wanted to wait counts, plus the
/// lateness of a timer.
pub(crate) async fn within_deadline<T>(deadline: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    let start = Instant::now();
    let mut counted = Duration::ZERO;
    while counted < deadline && start.elapsed() < deadline * DEADLINE_FACTOR_MAX {
        let slice = (deadline / SLICES).min(deadline - counted);
        let from = Instant::now();
        if let Ok(answer) = timeout_at(from + slice, &mut answer).await {
            return Some(answer);
        }
        counted += from.elapsed().min(slice + TIMER_LATENESS);
    }
    None
}

/// Logs an error, as a warning if `aloud`. The server's text may quote keys; its error code does not.
pub(crate) fn log_error(error: &RedisError, aloud: bool) {
    let (kind, code) = (error.category(), error.code());
    if aloud {
        tracing::warn!(kind, code, "the shared rate limit store failed");
    } else {
        tracing::debug!(kind, code, "the shared rate limit store failed");
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_process_that_is_busy_still_reads_the_answer() {
        let (send, answer) = oneshot::channel();
        let busy = tokio::spawn(async move {
            // Blocks the only thread for longer than the deadline.
            let (_held, never) = std::sync::mpsc::channel::<()>();
            let _ = never.recv_timeout(2 * DEADLINE);
            sleep(DEADLINE / 10).await;
            let _ = send.send(7);
        });
        assert_eq!(within_deadline(DEADLINE, answer).await, Some(Ok(7)));
        busy.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_idle_waits_no_longer_than_the_deadline() {
        let start = Instant::now();
        assert_eq!(within_deadline(DEADLINE, std::future::pending::<()>()).await, None);
        assert!(start.elapsed() < DEADLINE + TIMER_LATENESS);
    }
}
