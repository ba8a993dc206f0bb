//! Holds of calls that were dropped while the backend may still be working on them. Where the limits count
//! in-flight calls, such a call counts until the backend has answered, its connection has closed, or its time
//! budget has expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use vmcp_domain::WorkHold;

use crate::time_budget::TimeBudget;

/// Whether the backend may have received any part of a request. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentFlag(Arc<AtomicBool>);

impl SentFlag {
    /// Records that the backend may have received part of the request.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The hold of one call, kept while the backend works on it.
#[derive(Clone, Debug)]
pub(crate) struct CallHold {
    hold: WorkHold,
    time_budget: Arc<TimeBudget>,
    /// Whether the backend may have received any part of the request.
    pub(crate) sent_flag: SentFlag,
}

impl CallHold {
    pub(crate) fn new(hold: WorkHold, time_budget: Arc<TimeBudget>) -> Self {
        Self { hold, time_budget, sent_flag: SentFlag::default() }
    }

    /// Keeps the hold until `end` resolves or the time budget expires. Outside a tokio runtime the hold is
    /// released at once.
    pub(crate) fn keep_until(self, end: impl Future<Output = ()> + Send + 'static) {
        let Self { hold, time_budget, .. } = self;
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                tokio::select! {
                    () = end => {}
                    () = time_budget.wait_until_expired() => {}
                }
                drop(hold);
            });
        }
    }
}
