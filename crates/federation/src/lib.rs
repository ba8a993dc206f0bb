//! Federates many backends into one gateway: discovery, the merged catalogue, name conflicts, routing and
//! exposure.
//!
//! This crate resolves the name in a client's request to a backend and to the backend's own name of the item.
//! The crate `vmcp-backends` opens the connections to backends. Authorisation and rate limits belong to the
//! layers above.

mod catalogue;
mod exposure;
mod federation;
mod health;
mod per_caller;
mod pins;
pub mod policy;
mod state;
mod subscriptions;
mod task;
mod views;

pub use crate::catalogue::finding::Finding;
pub use crate::catalogue::listed_names::NameKind;
pub use crate::catalogue::overview::{CatalogueItem, ItemFilter};
pub use crate::catalogue::tool_change::ToolChange;
pub use crate::health::circuit_breaker::CircuitReport;
pub use crate::health::health_checks::{CheckFailure, HealthChecks};
pub use crate::health::report::{BackendReport, Health};
pub use crate::pins::{ToolDigests, ToolPins, ToolRecords, tool_changes, tool_digests};
pub use exposure::Exposed;
pub use federation::Federation;
