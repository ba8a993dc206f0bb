//! An exchange that continues when its caller leaves, while the backend may still be working on it.

use vmcp_domain::BoxFuture;
use vmcp_json::Json;

use crate::call_hold::CallHold;
use crate::failure::Failure;

/// A request with a hold. If its caller leaves, the answer is still read, because it shows when the backend
/// has finished. Where closing the response is the cancellation, no answer comes; the hold then lasts until
/// the time budget expires. If the backend cannot have received any part of the request, the hold ends at
/// once.
pub(super) struct HeldExchange {
    pub(super) exchange: Option<BoxFuture<'static, Result<Json, Failure>>>,
    pub(super) hold: CallHold,
    /// A cancellation is a separate message, and the response stays open.
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
