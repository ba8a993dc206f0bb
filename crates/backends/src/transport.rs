//! How messages reach a backend: standard streams of a child process, streamable HTTP, HTTP with server-sent
//! events.

pub(crate) mod child;
pub(crate) mod duplex;
pub(crate) mod line_reader;
pub(crate) mod read_throttle;
pub(crate) mod sse;
pub(crate) mod startup_activity;
pub(crate) mod stdio;
pub(crate) mod streamable;
