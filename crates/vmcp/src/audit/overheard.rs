//! What the limiter says about a call, brought to the record of that call. The limiter tells an observer in the middle of
//! the call's own work, so a slip that travels with that work can be written on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use vmcp_domain::RateLimit;
use vmcp_ratelimit::{Clock, DecisionEvent, Micros, Observer, StoreFailure, WaitEnd};

tokio::task_local! {
    /// The slip of the real call that is being made.
    static SLIP: Arc<Slip>;
}

/// What the limiter said about one call.
#[derive(Debug, Default)]
pub(super) struct Slip {
    verdict: OnceLock<Verdict>,
    refunded: AtomicBool,
}

/// The limiter's decision.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) at: Micros,
    pub(super) allowed: bool,
    pub(super) refusal: Option<RateLimit>,
    pub(super) would_refuse: usize,
    pub(super) fail_open: bool,
    pub(super) waited_us: u64,
}

impl Slip {
    /// Makes a call with this slip.
    pub(super) async fn accompany<T>(self: &Arc<Self>, call: impl Future<Output = T>) -> T {
        SLIP.scope(self.clone(), call).await
    }

    pub(super) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.get()
    }

    pub(super) fn is_refunded(&self) -> bool {
        self.refunded.load(Ordering::Relaxed)
    }
}

/// An observer that also writes on the slip.
pub(crate) struct Overheard {
    inner: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
}

impl Overheard {
    /// Puts it in front of `inner`.
    pub(crate) fn wrap(inner: Arc<dyn Observer>, clock: Arc<dyn Clock>) -> Arc<dyn Observer> {
        Arc::new(Self { inner, clock })
    }
}

impl Observer for Overheard {
    fn decided(&self, event: &DecisionEvent<'_>) {
        self.inner.decided(event);
        // Without a slip it is a call of a virtual tool, which is recorded as its client asked for it.
        let _ = SLIP.try_with(|slip| {
            slip.verdict.get_or_init(|| Verdict {
                at: event.at,
                allowed: event.allowed,
                refusal: event.refusal.cloned(),
                would_refuse: event.would_refuse.len(),
                fail_open: event.fail_open,
                waited_us: self.clock.now().since(event.at),
            });
        });
    }

    fn store_failed(&self, failure: StoreFailure) {
        self.inner.store_failed(failure);
    }

    fn refunded(&self, reason: &'static str) {
        self.inner.refunded(reason);
        let _ = SLIP.try_with(|slip| slip.refunded.store(true, Ordering::Relaxed));
    }

    fn wait_began(&self) {
        self.inner.wait_began();
    }

    fn wait_ended(&self, end: WaitEnd, waited: Duration) {
        self.inner.wait_ended(end, waited);
    }
}
