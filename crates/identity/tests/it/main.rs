//! The authenticator against an identity provider over real sockets, with manual clocks. The keys and
//! certificates in `keys/` are for these tests only. The certificates are valid for a hundred years.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own steps fail by panicking, those outside #[test] functions too"
)]

mod hostile;
mod introspection;
mod key_store;
mod support;
mod tokens;
