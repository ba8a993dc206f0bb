//! What is kept while a backend may be working on a call, also when nobody waits for the answer any more.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Something that is to be kept until a backend's work on a call has ended, such as a place among the calls in flight. It
/// travels in the context of the call. A transport that has passed on a cancellation keeps a clone until the backend has
/// answered after all, its connection has ended, or the time of the call is over.
#[derive(Clone)]
pub struct WorkHold {
    /// Never looked at: it does its work when it is dropped.
    _inner: Arc<dyn Any + Send + Sync>,
}

impl WorkHold {
    /// Keeps this.
    pub fn new(kept: impl Any + Send + Sync) -> Self {
        Self { _inner: Arc::new(kept) }
    }
}

impl fmt::Debug for WorkHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkHold")
    }
}
