//! How connections to a backend are opened, kept alive, shared between callers, and closed.

pub(crate) mod connect_failure;
pub(crate) mod connector;
pub(crate) mod per_caller;
pub(crate) mod probe;
pub(crate) mod process_slots;
pub(crate) mod readiness;
pub(crate) mod repeated_failures;
pub(crate) mod resubscribe;
pub(crate) mod subscription_streams;
pub(crate) mod supervised;
pub(crate) mod supervisor;
