//! Keeps one backend connected: connects, observes the close of the connection, waits for the back-off, and
//! connects again. It publishes the current phase to everything that uses the backend.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vmcp_timing::Backoff;

use crate::connection::Connection;
use crate::connection::close_signal::CloseReason;
use crate::lifecycle::connector::Connector;
use crate::lifecycle::repeated_failures::{PROCESS_PAUSE, RepeatedFailures};
use crate::lifecycle::supervised::{Phase, SupervisedConnection};
use crate::policy::Transport;

/// The first and the longest delay between attempts to connect.
const CONNECT_DELAYS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A connection that lasted this long is reopened at once and resets the back-off.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// A connection that lasted this long and was forgotten by its backend is reopened at once.
const SESSION_STABLE_AFTER: Duration = Duration::from_secs(1);

/// Keeps the backend connected until `stop` is cancelled.
pub(crate) async fn run(supervised: Arc<SupervisedConnection>) {
    let mut connector = Connector::new(Arc::clone(&supervised));
    let mut backoff = Backoff::new(CONNECT_DELAYS.0, CONNECT_DELAYS.1);
    let mut failures = RepeatedFailures::default();
    loop {
        let connected = tokio::select! {
            connected = connector.connect() => connected,
            () = supervised.stop.cancelled() => break,
        };
        match connected {
            Ok(connection) => {
                let connected_at = Instant::now();
                supervised.record_connected(&connection, failures.clear());
                let reason = tokio::select! {
                    reason = connection.link.close_signal().closed() => reason,
                    () = supervised.stop.cancelled() => {
                        close_connection(&supervised, &connection).await;
                        break;
                    }
                };
                supervised.record_lost(reason);
                let lifetime = connected_at.elapsed();
                if lifetime >= STABLE_AFTER {
                    backoff.reset();
                    continue;
                }
                if matches!(reason, CloseReason::SessionLost(_)) && lifetime >= SESSION_STABLE_AFTER {
                    continue;
                }
            }
            Err(attempt) => {
                let explained = attempt.explain(&supervised.policy);
                let count = failures.record(attempt.failure.class(), &explained.cause);
                supervised.record_failed(&attempt.failure, explained, count);
            }
        }
        let is_process = matches!(supervised.policy.transport, Transport::Stdio(_));
        let delay = backoff.next_delay();
        let delay = if is_process && failures.is_process_paused() { PROCESS_PAUSE } else { delay };
        tokio::select! {
            () = wait_for_retry(&supervised, delay) => {}
            () = supervised.stop.cancelled() => break,
        }
    }
    supervised.phase.send_replace(Phase::Stopped);
}

/// Waits until the next attempt is due. A caller's connection also waits for a request of its caller.
async fn wait_for_retry(supervised: &SupervisedConnection, wait: Duration) {
    let waiting = async {
        sleep(wait).await;
        if supervised.is_personal() {
            supervised.waits_for_caller.store(true, Ordering::Release);
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = waiting => {}
        () = supervised.retry_now.notified() => {}
    }
    supervised.waits_for_caller.store(false, Ordering::Release);
}

async fn close_connection(supervised: &SupervisedConnection, connection: &Connection) {
    supervised.phase.send_replace(Phase::Stopped);
    let grace = *supervised.grace.lock();
    connection.close(grace).await;
}
