//! Rate-limit budget for several calls at once, for layers that compose calls: either all of them are paid
//! for, or none is made.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

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
