//! How long a call may take. The limit applies to the backend: while the client is asked a question the
//! budget is paused, because a person may be typing. The deadline of the call context is never extended.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use vmcp_domain::{
    AskError, BackendId, BoxFuture, ClientCapabilities, ClientKey, ClientPort, Error, LogLevel, Question,
    QuestionKind,
};
use vmcp_json::{Json, Members};

/// Maximum time for a client to answer one question.
const QUESTION_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// The time budget of one call.
#[derive(Debug)]
pub(crate) struct TimeBudget {
    deadline: Option<Instant>,
    call_timeout: Duration,
    /// Maximum time of the call, excluding pauses, however often progress extends the budget.
    call_timeout_max: Duration,
    state: Mutex<BudgetState>,
    changed: Notify,
}

#[derive(Debug)]
struct BudgetState {
    started_at: Instant,
    expires_at: Instant,
    open_questions: usize,
    paused_at: Instant,
}

impl TimeBudget {
    /// Starts a budget of `call_timeout` from now. Progress extends it up to `longest`. It never exceeds
    /// `deadline`.
    pub(crate) fn new(
        call_timeout: Duration,
        longest: Duration,
        deadline: Option<std::time::Instant>,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            deadline: deadline.map(Instant::from_std),
            call_timeout,
            call_timeout_max: longest.max(call_timeout),
            state: Mutex::new(BudgetState {
                started_at: now,
                expires_at: now + call_timeout,
                open_questions: 0,
                paused_at: now,
            }),
            changed: Notify::new(),
        })
    }

    /// Waits until the budget has expired.
    pub(crate) async fn wait_until_expired(&self) {
        loop {
            // A pause only postpones the expiry, so no notification of it is needed before the current
            // expiry.
            let expires_at = self.state.lock().expires_at;
            sleep_until(earlier(expires_at, self.deadline)).await;
            let changed = self.changed.notified();
            match self.status_at(Instant::now()) {
                BudgetStatus::Expired => return,
                BudgetStatus::Running => {}
                BudgetStatus::Paused => match self.deadline {
                    None => changed.await,
                    Some(hard) => tokio::select! {
                        () = sleep_until(hard) => return,
                        () = changed => {}
                    },
                },
            }
        }
    }

    /// Extends the budget after a progress report: the backend has the call time-out again, up to the
    /// maximum.
    fn extend(&self) {
        let mut state = self.state.lock();
        let longest = state.started_at + self.call_timeout_max;
        state.expires_at = state.expires_at.max((Instant::now() + self.call_timeout).min(longest));
    }

    /// The error for an expired budget.
    pub(crate) fn timeout_error(&self, backend: &BackendId) -> Error {
        if self.deadline.is_some_and(|hard| hard <= Instant::now()) {
            return Error::DeadlineExceeded;
        }
        let state = self.state.lock();
        Error::BackendTimedOut { backend: backend.clone(), after: state.expires_at - state.started_at }
    }

    fn status_at(&self, now: Instant) -> BudgetStatus {
        let state = self.state.lock();
        if self.deadline.is_some_and(|hard| hard <= now) {
            BudgetStatus::Expired
        } else if state.open_questions > 0 {
            BudgetStatus::Paused
        } else if state.expires_at <= now {
            BudgetStatus::Expired
        } else {
            BudgetStatus::Running
        }
    }

    fn pause(self: &Arc<Self>) -> PauseGuard {
        let mut state = self.state.lock();
        if state.open_questions == 0 {
            state.paused_at = Instant::now();
        }
        state.open_questions += 1;
        drop(state);
        self.changed.notify_waiters();
        PauseGuard(Arc::clone(self))
    }
}

/// The status of the budget at a moment.
enum BudgetStatus {
    Running,
    /// The client is being asked a question.
    Paused,
    Expired,
}

fn earlier(one: Instant, other: Option<Instant>) -> Instant {
    other.map_or(one, |other| one.min(other))
}

/// Pauses the budget until it is dropped.
struct PauseGuard(Arc<TimeBudget>);

impl Drop for PauseGuard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.open_questions -= 1;
        if state.open_questions == 0 {
            let paused = state.paused_at.elapsed();
            state.expires_at += paused;
            state.started_at += paused;
        }
        drop(state);
        self.0.changed.notify_waiters();
    }
}

/// The client of one call. While it is asked a question, the call's time budget is paused.
#[derive(Debug)]
pub(crate) struct TimedClientPort {
    inner: Arc<dyn ClientPort>,
    time_budget: Arc<TimeBudget>,
    /// The first kind of question that the client was asked without having declared the capability.
    missing_capability: OnceLock<QuestionKind>,
}

impl TimedClientPort {
    pub(crate) fn new(inner: Arc<dyn ClientPort>, time_budget: Arc<TimeBudget>) -> Arc<Self> {
        Arc::new(Self { inner, time_budget, missing_capability: OnceLock::new() })
    }

    /// True if the client declared the capability that a question needs. If not, the capability is recorded
    /// as missing.
    pub(crate) fn can_be_asked(&self, question: &Question) -> bool {
        let can = self.inner.capabilities().supports_question(question);
        if !can {
            let _ = self.missing_capability.set(question.kind);
        }
        can
    }

    /// The capability that a question needed and the client lacks.
    pub(crate) fn missing_capability(&self) -> Option<QuestionKind> {
        self.missing_capability.get().copied()
    }
}

impl ClientPort for TimedClientPort {
    fn wants_progress(&self) -> bool {
        self.inner.wants_progress()
    }

    fn progress(&self, params: Members) {
        self.time_budget.extend();
        self.inner.progress(params);
    }

    fn log_level(&self) -> Option<LogLevel> {
        self.inner.log_level()
    }

    fn log(&self, level: LogLevel, params: Members) {
        self.inner.log(level, params);
    }

    fn elicitation_complete(&self, params: Members) {
        self.inner.elicitation_complete(params);
    }

    fn capabilities(&self) -> &ClientCapabilities {
        self.inner.capabilities()
    }

    fn client_key(&self) -> Option<ClientKey> {
        self.inner.client_key()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        Box::pin(async move {
            let _pause_guard = self.time_budget.pause();
            let asking = timeout(QUESTION_TIMEOUT_MAX, self.inner.ask(question));
            let answer = asking.await.unwrap_or(Err(AskError::Unreachable));
            if let Err(AskError::Unsupported(kind)) = &answer {
                let _ = self.missing_capability.set(*kind);
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
        let time_budget = TimeBudget::new(Duration::from_secs(10), Duration::ZERO, None);
        let asking = time_budget.pause();
        let waiting = tokio::spawn({
            let time_budget = Arc::clone(&time_budget);
            async move { time_budget.wait_until_expired().await }
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
        let time_budget = TimeBudget::new(Duration::from_secs(10), Duration::from_secs(60), None);
        let waiting = tokio::spawn({
            let time_budget = Arc::clone(&time_budget);
            async move { time_budget.wait_until_expired().await }
        });
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            time_budget.extend();
        }
        assert!(!waiting.is_finished());
        tokio::time::sleep(Duration::from_secs(9)).await;
        time_budget.extend();
        waiting.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 60);
        let fault = time_budget.timeout_error(&"b".into());
        assert_eq!(
            fault.to_string(),
            "backend `b` did not answer within 60 s; `timeout` of the backend or `operational.timeouts` allows more"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_never_moved() {
        let start = Instant::now();
        let deadline = std::time::Instant::now() + Duration::from_secs(3);
        let time_budget = TimeBudget::new(Duration::from_secs(10), Duration::ZERO, Some(deadline));
        let _pause_guard = time_budget.pause();
        time_budget.wait_until_expired().await;
        assert!(start.elapsed() <= Duration::from_secs(4));
    }
}
