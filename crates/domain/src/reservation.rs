//! Rate-limit budget for several calls at once, for layers that compose calls: either all of them are paid
//! for, or none is made.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::context::CallContext;
use crate::gateway::GatewayFuture;
use crate::message::CallTool;

/// Budget that was charged in advance. It travels in the context of the calls that spend it. The unspent
/// remainder is refunded when the last clone is dropped.
#[derive(Clone)]
pub struct Reservation(Arc<dyn Any + Send + Sync>);

impl Reservation {
    /// Wraps the state of the limiter that granted the budget.
    pub fn new(state: impl Any + Send + Sync) -> Self {
        Self(Arc::new(state))
    }

    /// The state of the limiter that granted it; `None` when it has another type.
    #[must_use]
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reservation")
    }
}

/// Reserves budget in advance.
pub trait ReserveBudget: Send + Sync {
    /// Reserves the budget of all these calls in one decision. Calls of the same tools at the same price
    /// spend it, in any order, when they carry it in [`CallContext::reservation`]. Other calls are charged as
    /// usual. Limits on in-flight calls are not reserved.
    ///
    /// # Errors
    /// [`crate::Error::RateLimited`] when the budget does not suffice for all calls, with the time until it
    /// can. [`crate::Error::UnknownTool`] for a tool that does not exist. [`crate::Error::InvalidRequest`]
    /// for more calls or limits than one reservation may have, and [`crate::Error::LimitsUnavailable`] when
    /// the shared store does not answer. Nothing is charged then.
    fn reserve<'a>(&'a self, ctx: &'a CallContext, calls: &'a [CallTool]) -> GatewayFuture<'a, Reservation>;
}
