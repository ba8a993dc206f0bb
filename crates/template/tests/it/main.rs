//! The crate's interface.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod bounds;
mod go_cases;
