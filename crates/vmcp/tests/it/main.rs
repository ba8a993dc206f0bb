//! Integration tests of vmcp as a library, with real servers behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own steps fail by panicking, those outside #[test] functions too"
)]

/// The tests embed the example itself, so the example cannot get out of date.
#[allow(dead_code, unreachable_pub, reason = "it is a program, whose `main` is not called here")]
#[path = "../../examples/embed.rs"]
mod example;

mod embedding;
