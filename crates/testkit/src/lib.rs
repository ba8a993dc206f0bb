//! Fakes of the two contracts that tests stand on, and the suite every decorator has to pass.
//! Dev-dependency only; nothing of it is in the product.

// A test helper that fails is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate exists to fail tests")]

mod changes;
pub mod conformance;
mod fake_backend;
mod fake_gateway;
pub mod skip;

pub use changes::watch_changes;
pub use fake_backend::FakeBackend;
pub use fake_gateway::{FakeGateway, context, tool};
