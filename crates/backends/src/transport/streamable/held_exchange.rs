//! An exchange that continues when its caller leaves, for as long as the backend may still work on it.

use vmcp_domain::{BoxFuture, Json};

use crate::call_hold::CallHold;
use crate::failure::Failure;

/// A request for which something is held. If its caller leaves, the answer is read all the same, since it tells when the backend
/// has ended with it; where closing the response is the cancellation, nothing tells, and its time counts.
pub(super) struct HeldExchange {
    pub(super) exchange: Option<BoxFuture<'static, Result<Json, Failure>>>,
    pub(super) hold: CallHold,
    /// A cancellation is a message of its own, and the response stays open.
    pub(super) continues_after_drop: bool,
}

impl HeldExchange {
    pub(super) async fn outcome(mut self) -> Result<Json, Failure> {
        let Some(work) = &mut self.exchange else { return Err(Failure::Overloaded) };
        let outcome = work.await;
        self.exchange = None;
        outcome
    }
}

impl Drop for HeldExchange {
    fn drop(&mut self) {
        let Some(work) = self.exchange.take().filter(|_| self.hold.sent_flag.is_set()) else { return };
        if self.continues_after_drop {
            self.hold.clone().keep_until(async move { drop(work.await) });
        } else {
            self.hold.clone().keep_until(std::future::pending());
        }
    }
}
