//! How long a call may take. The bound is on the backend: while the client is being asked something the clock
//! stands still, because a person may be typing. The context's own deadline is never moved.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use vmcp_domain::{
    AskError, BackendId, BoxFuture, ClientCapabilities, ClientKey, ClientPort, Error, Json, LogLevel,
    Members, Question, QuestionKind,
};

use crate::sync::Guarded;

/// The longest a client may think about one question.
const QUESTION_WAIT_MAX: Duration = Duration::from_secs(600);

/// The clock of one call.
#[derive(Debug)]
pub(crate) struct Patience {
    hard: Option<Instant>,
    allowed: Duration,
    /// Progress puts the end off until this much of the call's own time has passed.
    longest: Duration,
    clock: Guarded<Clock>,
    changed: Notify,
}

#[derive(Debug)]
struct Clock {
    began: Instant,
    due: Instant,
    asking: usize,
    stopped: Instant,
}

impl Patience {
    /// Runs from now for `allowed`, with progress for `longest`, never beyond `deadline`.
    pub(crate) fn new(
        allowed: Duration,
        longest: Duration,
        deadline: Option<std::time::Instant>,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            hard: deadline.map(Instant::from_std),
            allowed,
            longest: longest.max(allowed),
            clock: Guarded::new(Clock { began: now, due: now + allowed, asking: 0, stopped: now }),
            changed: Notify::new(),
        })
    }

    /// Waits until there is no more time.
    pub(crate) async fn spent(&self) {
        loop {
            // Pauses only put the end off, so nobody has to tell of one before the end as it is now.
            let due = self.clock.lock().due;
            sleep_until(earlier(due, self.hard)).await;
            let changed = self.changed.notified();
            match self.look(Instant::now()) {
                State::Spent => return,
                State::Runs => {}
                State::Stands => match self.hard {
                    None => changed.await,
                    Some(hard) => tokio::select! {
                        () = sleep_until(hard) => return,
                        () = changed => {}
                    },
                },
            }
        }
    }

    /// The backend has reported progress: it has as much time again.
    fn extend(&self) {
        let mut clock = self.clock.lock();
        let longest = clock.began + self.longest;
        clock.due = clock.due.max((Instant::now() + self.allowed).min(longest));
    }

    /// What is told when the time has passed.
    pub(crate) fn fault(&self, backend: &BackendId) -> Error {
        if self.hard.is_some_and(|hard| hard <= Instant::now()) {
            return Error::DeadlineExceeded;
        }
        let clock = self.clock.lock();
        Error::BackendTimedOut { backend: backend.clone(), after: clock.due - clock.began }
    }

    fn look(&self, now: Instant) -> State {
        let clock = self.clock.lock();
        if self.hard.is_some_and(|hard| hard <= now) {
            State::Spent
        } else if clock.asking > 0 {
            State::Stands
        } else if clock.due <= now {
            State::Spent
        } else {
            State::Runs
        }
    }

    fn stop(self: &Arc<Self>) -> Asking {
        let mut clock = self.clock.lock();
        if clock.asking == 0 {
            clock.stopped = Instant::now();
        }
        clock.asking += 1;
        drop(clock);
        self.changed.notify_waiters();
        Asking(Arc::clone(self))
    }
}

/// What the clock shows at a moment.
enum State {
    Runs,
    /// The client is being asked.
    Stands,
    Spent,
}

fn earlier(one: Instant, other: Option<Instant>) -> Instant {
    other.map_or(one, |other| one.min(other))
}

/// While it lives the clock stands still.
struct Asking(Arc<Patience>);

impl Drop for Asking {
    fn drop(&mut self) {
        let mut clock = self.0.clock.lock();
        clock.asking -= 1;
        if clock.asking == 0 {
            let paused = clock.stopped.elapsed();
            clock.due += paused;
            clock.began += paused;
        }
        drop(clock);
        self.0.changed.notify_waiters();
    }
}

/// The client of one call, with the call's clock held while it is asked.
#[derive(Debug)]
pub(crate) struct TimedPort {
    inner: Arc<dyn ClientPort>,
    patience: Arc<Patience>,
    /// What the client was asked and had not declared, first.
    lacked: OnceLock<QuestionKind>,
}

impl TimedPort {
    pub(crate) fn new(inner: Arc<dyn ClientPort>, patience: Arc<Patience>) -> Arc<Self> {
        Arc::new(Self { inner, patience, lacked: OnceLock::new() })
    }

    /// Whether the client declared what a question needs. If not, that is what it lacked.
    pub(crate) fn can_be_asked(&self, question: &Question) -> bool {
        let can = self.inner.capabilities().allows_question(question);
        if !can {
            let _ = self.lacked.set(question.kind);
        }
        can
    }

    /// The capability that a question needed and the client has not.
    pub(crate) fn lacked(&self) -> Option<QuestionKind> {
        self.lacked.get().copied()
    }
}

impl ClientPort for TimedPort {
    fn wants_progress(&self) -> bool {
        self.inner.wants_progress()
    }

    fn progress(&self, params: Members) {
        self.patience.extend();
        self.inner.progress(params);
    }

    fn log_level(&self) -> Option<LogLevel> {
        self.inner.log_level()
    }

    fn log(&self, level: LogLevel, params: Members) {
        self.inner.log(level, params);
    }

    fn visited(&self, params: Members) {
        self.inner.visited(params);
    }

    fn capabilities(&self) -> &ClientCapabilities {
        self.inner.capabilities()
    }

    fn client_key(&self) -> Option<ClientKey> {
        self.inner.client_key()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        Box::pin(async move {
            let _asking = self.patience.stop();
            let asking = timeout(QUESTION_WAIT_MAX, self.inner.ask(question));
            let answer = asking.await.unwrap_or(Err(AskError::Unreachable));
            if let Err(AskError::Unsupported(kind)) = &answer {
                let _ = self.lacked.set(*kind);
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_stands_still_while_the_client_is_asked() {
        let start = Instant::now();
        let patience = Patience::new(Duration::from_secs(10), Duration::ZERO, None);
        let asking = patience.stop();
        let waiting = tokio::spawn({
            let patience = Arc::clone(&patience);
            async move { patience.spent().await }
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished());
        drop(asking);
        waiting.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 70);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_puts_the_end_off_up_to_a_bound() {
        let start = Instant::now();
        let patience = Patience::new(Duration::from_secs(10), Duration::from_secs(60), None);
        let waiting = tokio::spawn({
            let patience = Arc::clone(&patience);
            async move { patience.spent().await }
        });
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            patience.extend();
        }
        assert!(!waiting.is_finished());
        tokio::time::sleep(Duration::from_secs(9)).await;
        patience.extend();
        waiting.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 60);
        let fault = patience.fault(&"b".into());
        assert_eq!(
            fault.to_string(),
            "backend `b` did not answer within 60 s; `timeout` of the backend or `operational.timeouts` allows more"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_never_moved() {
        let start = Instant::now();
        let deadline = std::time::Instant::now() + Duration::from_secs(3);
        let patience = Patience::new(Duration::from_secs(10), Duration::ZERO, Some(deadline));
        let _asking = patience.stop();
        patience.spent().await;
        assert!(start.elapsed() <= Duration::from_secs(4));
    }
}
