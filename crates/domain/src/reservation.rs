//! Budget for several calls at once, for layers that compose calls: all of them can be paid for, or none is made.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::context::CallContext;
use crate::gateway::GatewayFuture;
use crate::message::CallTool;

/// Budget that was asked for ahead. It travels in the context of the calls that spend it; what is left over is given
/// back when the last of its holders lets go.
#[derive(Clone)]
pub struct Reservation(Arc<dyn Any + Send + Sync>);

impl Reservation {
    /// Wraps what its maker needs to know of it.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self(Arc::new(held))
    }

    /// What its maker knows of it; `None` for another kind of maker.
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

/// Grants budget ahead.
pub trait ReserveBudget: Send + Sync {
    /// Asks for the budget of all these calls together. It is spent by calls of the same tools at the same prices that carry it
    /// in [`CallContext::reservation`], in any order; other calls pay as usual. Bounds on calls in flight are not reserved.
    ///
    /// # Errors
    /// [`crate::Error::RateLimited`] when the budget of all of them is not there, with the time until it can be;
    /// [`crate::Error::UnknownTool`] for a tool that does not exist. Nothing is spent then.
    fn reserve<'a>(&'a self, ctx: &'a CallContext, calls: &'a [CallTool]) -> GatewayFuture<'a, Reservation>;
}
