//! The authenticator against an identity provider over real sockets, with time as the tests want it.
//! The keys and certificates in `keys/` were made for these tests alone; the certificates are valid for a hundred years.

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
