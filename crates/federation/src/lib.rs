//! Many backends seen as one: discovery, the catalogue, name conflicts, routing and exposure.
//!
//! It resolves what a client names to the backend and the name that really stand behind it.
//! How a backend is reached is `vmcp-backends`'; who may call and how often is for the layers above.

mod breaker;
mod catalogue;
mod checks;
mod conflict;
mod exposure;
mod federation;
mod finding;
mod follow;
mod listed;
mod overview;
mod own_lists;
mod personal;
pub mod policy;
mod refresh;
mod report;
mod shared;
mod task;

pub use breaker::{CircuitReport, CircuitState};
pub use checks::{CheckFailure, HealthChecks};
pub use exposure::Exposed;
pub use federation::Federation;
pub use finding::Finding;
pub use listed::NameKind;
pub use overview::{CatalogueItem, ItemFilter};
pub use report::{BackendReport, Health};
