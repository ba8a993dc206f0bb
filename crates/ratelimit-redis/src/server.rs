//! Asking the server: one deadline over everything, the breaker, and what each answer says about the link.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use vmcp_ratelimit::{Blocks, Connection, StoreFailure};

use crate::breaker::Breaker;
use crate::link::{Link, is_unknown_script};
use crate::policy::RedisPolicy;
use crate::script::{Call, Scripts};
use crate::server_time::ServerTime;

/// In how many parts a deadline is waited for.
const SLICES: u32 = 5;
/// So late a timer fires in a process that is not busy.
const LATE: Duration = Duration::from_millis(2);
/// The number of deadlines after which a busy process stops waiting.
const WAIT_MAX: u32 = 10;

/// What is known of the connection.
#[derive(Clone)]
pub(crate) enum LinkState {
    /// An attempt is under way that has not failed yet.
    Connecting,
    /// The server takes writes.
    Up(Link),
    /// The last attempt failed.
    Down(StoreFailure),
}

/// An age that may not be known yet. Each call reads it.
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

/// The server as everybody shares it.
pub(crate) struct Server {
    pub(crate) policy: RedisPolicy,
    pub(crate) scripts: Scripts,
    pub(crate) breaker: Breaker,
    /// How many replicas live; zero while that is not known.
    pub(crate) replica_count: AtomicU32,
    /// For how long buckets have been kept under their present keys.
    pub(crate) key_age: KeyAge,
    /// What its clock showed last.
    pub(crate) time: ServerTime,
    /// What an operator should change in its settings.
    pub(crate) warnings: Mutex<Vec<String>>,
    /// What operators have blocked.
    pub(crate) blocks: Arc<Blocks>,
    /// Wakes the keeper.
    pub(crate) wake: Notify,
    state: watch::Sender<LinkState>,
    /// The newest link that is of no use any more.
    broken: AtomicU64,
    /// The newest link that was up, by the attempt that made it, and when.
    linked: Mutex<Option<(u64, Instant)>>,
}

impl Server {
    pub(crate) fn new(policy: RedisPolicy) -> Self {
        Self {
            scripts: Scripts::new(policy.key_head()),
            policy,
            breaker: Breaker::default(),
            replica_count: AtomicU32::new(0),
            key_age: KeyAge::default(),
            time: ServerTime::default(),
            warnings: Mutex::default(),
            blocks: Blocks::new(),
            wake: Notify::new(),
            state: watch::Sender::new(LinkState::Connecting),
            broken: AtomicU64::new(0),
            linked: Mutex::new(None),
        }
    }

    /// True while the server answers.
    pub(crate) fn is_available(&self) -> bool {
        !self.breaker.is_open() && matches!(*self.state.borrow(), LinkState::Up(_))
    }

    /// The link that is up, or the last one that was.
    pub(crate) fn connection(&self) -> Connection {
        let linked = self.linked.lock();
        let restored = linked.as_ref().filter(|(generation, _)| *generation > 1);
        Connection {
            number: linked.as_ref().map_or(0, |(generation, _)| *generation),
            restored: restored.map(|(_, at)| at.elapsed()),
        }
    }

    pub(crate) fn set_state(&self, state: LinkState) {
        if let LinkState::Up(link) = &state {
            *self.linked.lock() = Some((link.generation, Instant::now()));
        }
        self.state.send_replace(state);
    }

    /// True when this link, or a newer one, was found to be of no use.
    pub(crate) fn is_broken(&self, link: &Link) -> bool {
        self.broken.load(Ordering::Acquire) >= link.generation
    }

    /// Makes one call within the deadline. While the store rests, answers at once.
    pub(crate) async fn ask(&self, call: &Call<'_>) -> Result<Value, StoreFailure> {
        if self.breaker.is_open() {
            return Err(StoreFailure::Resting);
        }
        let answer = async { self.request(&self.link().await?, call).await };
        let outcome = answered_within(self.policy.deadline(), answer).await;
        let outcome = outcome.unwrap_or(Err(StoreFailure::Timeout));
        self.note(outcome.as_ref().err());
        outcome
    }

    /// Notes how an exchange ended.
    pub(crate) fn note(&self, failure: Option<&StoreFailure>) {
        match failure {
            None => self.breaker.answered(),
            Some(failure) => {
                if self.breaker.failed() {
                    tracing::warn!(failure = failure.label(), "the shared rate limit store is given time");
                    self.wake.notify_one();
                }
            }
        }
    }

    /// Sends a call over a link. A script the server forgot is brought along by the second attempt; nothing else is
    /// tried twice, since a call whose answer is lost may have been carried out.
    pub(crate) async fn request(&self, link: &Link, call: &Call<'_>) -> Result<Value, StoreFailure> {
        let outcome = match link.request(&call.by_digest()).await {
            Err(error) if is_unknown_script(&error) => link.request(&call.by_text()).await,
            outcome => outcome,
        };
        outcome.map_err(|error| {
            let fault = link.judge(&error);
            report(&error, self.breaker.is_clear());
            if fault.broken && self.broken.fetch_max(link.generation, Ordering::AcqRel) < link.generation {
                self.wake.notify_one();
            }
            fault.failure
        })
    }

    /// The link, which is waited for while the first attempt is under way.
    async fn link(&self) -> Result<Link, StoreFailure> {
        let now = self.state.borrow().clone();
        let settled = match now {
            LinkState::Connecting => {
                let mut states = self.state.subscribe();
                let settled = states.wait_for(|state| !matches!(state, LinkState::Connecting)).await;
                settled.map_or(LinkState::Down(StoreFailure::Unconnected), |state| state.clone())
            }
            LinkState::Up(_) | LinkState::Down(_) => now,
        };
        match settled {
            LinkState::Up(link) => Ok(link),
            LinkState::Down(failure) => Err(failure),
            LinkState::Connecting => Err(StoreFailure::Unconnected),
        }
    }
}

/// Waits for an answer until a deadline. `None` when there is none.
///
/// A process that is busy may send late, and may find the deadline past before it has read an answer that is there. It is then
/// woken late, and of that time only as much counts as it wanted to wait.
pub(crate) async fn answered_within<T>(deadline: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    let start = Instant::now();
    let mut counted = Duration::ZERO;
    while counted < deadline && start.elapsed() < deadline * WAIT_MAX {
        let slice = (deadline / SLICES).min(deadline - counted);
        let from = Instant::now();
        if let Ok(answer) = timeout_at(from + slice, &mut answer).await {
            return Some(answer);
        }
        counted += from.elapsed().min(slice + LATE);
    }
    None
}

/// Logs an error, aloud when it is the first of many. The server's own text may quote keys; its first word does not.
pub(crate) fn report(error: &RedisError, aloud: bool) {
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
            // Keeps the only thread for longer than the deadline.
            let (_held, never) = std::sync::mpsc::channel::<()>();
            let _ = never.recv_timeout(2 * DEADLINE);
            sleep(DEADLINE / 10).await;
            let _ = send.send(7);
        });
        assert_eq!(answered_within(DEADLINE, answer).await, Some(Ok(7)));
        busy.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_idle_waits_no_longer_than_the_deadline() {
        let start = Instant::now();
        assert_eq!(answered_within(DEADLINE, std::future::pending::<()>()).await, None);
        assert!(start.elapsed() < DEADLINE + LATE);
    }
}
