//! Connections of clients: listening, the worker threads, time limits of heads, and stalled peers.

pub(crate) mod head_timer;
pub(crate) mod listener;
pub(crate) mod stall_timeout;
pub(crate) mod worker_threads;
