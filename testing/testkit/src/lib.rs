//! Fakes of the two contracts `Gateway` and `Backend`, and the conformance suite for decorators.
//! Dev-dependency only; no product crate depends on it.

// A test helper reports a failure by a panic, which fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate exists to fail tests")]

mod changes;
pub mod conformance;
mod fake_backend;
mod fake_gateway;
pub mod skip;
pub mod web;

pub use changes::watch_changes;
pub use fake_backend::FakeBackend;
pub use fake_gateway::{FakeGateway, context, tool};
