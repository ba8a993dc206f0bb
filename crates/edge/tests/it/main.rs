//! The client edge over real sockets and in-memory pipes, in front of a scripted gateway.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own steps fail by panicking, those outside #[test] functions too"
)]

mod browsers;
mod cancel;
mod changes;
mod entrance;
mod guards;
mod hostile;
mod lists;
mod load;
mod observed;
mod rounds;
mod sessions;
mod shutdown;
mod stateless;
mod stdio;
mod streams;
mod support;
mod tasks;
