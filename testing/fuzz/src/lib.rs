//! Fuzz targets: one function for each format that clients, backends or operators send. A target reads any
//! bytes and panics if a property of the format does not hold.
//!
//! The tests of this crate change the inputs in `seeds/` at random for some seconds. `cargo xtask fuzz` runs
//! the same targets for longer, guided by code coverage. Add an input that failed to the target's folder in
//! `seeds/`, so that it is tried in every run.

#![allow(clippy::panic, reason = "a target reports a broken property by a panic")]

mod edit;
mod seeds;
mod targets;

pub use edit::{Edit, apply, edits};
pub use seeds::{folder, seeds};
pub use targets::{TARGETS, Target};
