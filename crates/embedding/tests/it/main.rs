//! The models against the results of the original tokeniser and the original weights for the same texts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own steps fail by panicking, those outside #[test] functions too"
)]

mod minilm;
mod static_vectors;
mod texts;
mod tokeniser;
