//! Connections of clients: the listener, its worker threads, the time-out for request heads, and the time-out
//! for stalled peers. `http` answers the requests.

pub(crate) mod head_timer;
pub(crate) mod listener;
pub(crate) mod stall_timeout;
pub(crate) mod worker_threads;
