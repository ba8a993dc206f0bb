//! Requests of protocol version 2026-07-28, which has no sessions: rounds, sealed states, streams of changes,
//! and tasks.

pub(crate) mod handler;
pub(crate) mod listen;
pub(crate) mod pending_calls;
pub(crate) mod round_state;
pub(crate) mod rounds;
pub(crate) mod seal;
pub(crate) mod task_ids;
pub(crate) mod tasks;
