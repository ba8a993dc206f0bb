//! [`WorkHold`]: a resource that is held while a backend may be working on a call, even when no caller waits
//! for the answer any more.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Something that must be held until a backend's work on a call has ended, such as a slot for in-flight
/// calls. It travels in the call's context. A transport that has forwarded a cancellation keeps a clone until
/// the backend has answered after all, the connection has ended, or the call's time-out has passed.
#[derive(Clone)]
pub struct WorkHold {
    /// It is never read: it acts when it is dropped.
    _inner: Arc<dyn Any + Send + Sync>,
}

impl WorkHold {
    /// Holds a value until the last clone is dropped.
    pub fn new(inner: impl Any + Send + Sync) -> Self {
        Self { _inner: Arc::new(inner) }
    }
}

impl fmt::Debug for WorkHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkHold")
    }
}
