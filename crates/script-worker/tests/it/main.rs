//! Scripts in a worker process of their own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod hostile;
mod starlark;
mod support;
mod world;
