//! Many backends seen as one: discovery, the catalogue, name conflicts, routing and exposure.
//!
//! It resolves what a client names to the backend and the name that really stand behind it.
//! How a backend is reached is `vmcp-backends`'; who may call and how often is for the layers above.

mod catalogue;
mod exposure;
mod federation;
mod health;
mod per_caller;
pub mod policy;
mod state;
mod subscriptions;
mod task;

pub use crate::catalogue::finding::Finding;
pub use crate::catalogue::listed_names::NameKind;
pub use crate::catalogue::overview::{CatalogueItem, ItemFilter};
pub use crate::health::circuit_breaker::{CircuitReport, CircuitState};
pub use crate::health::health_checks::{CheckFailure, HealthChecks};
pub use crate::health::report::{BackendReport, Health};
pub use exposure::Exposed;
pub use federation::Federation;
