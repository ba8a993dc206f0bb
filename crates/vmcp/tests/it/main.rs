//! vmcp as a library, with real servers behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own steps fail by panicking, those outside #[test] functions too"
)]

/// The example is what the tests embed, so it cannot rot.
#[allow(dead_code, unreachable_pub, reason = "it is a program, whose `main` is not called here")]
#[path = "../../examples/embed.rs"]
mod example;

mod embedding;
