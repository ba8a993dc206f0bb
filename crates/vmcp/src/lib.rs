//! vmcp as a library: one MCP endpoint in front of many MCP servers.
//!
//! [`Builder`] takes a configuration and optional layers of the embedding program, and starts a [`RunningGateway`].
//! The gateway can be called in process, served over HTTP, or served on a pair of streams.
//!
//! ```
//! use vmcp::{Builder, domain::{CallContext, Caller, CallOrigin}};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let gateway = Builder::from_yaml("name: tools\nbackends: []\n").start().await?;
//! let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
//! assert!(gateway.gateway.list_tools(&ctx).await?.is_empty());
//! gateway.stop().await;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```
//!
//! `examples/embed.rs` adds a layer that refuses calls of tools that may change something while a file exists. The
//! binary `vmcp` is this crate with a command line.

mod audit_decisions;
mod builder;
pub mod limits_replay;
mod metrics;
pub mod operator_token;
mod private_file;
pub mod process;
mod running;
mod stack;
mod status;
pub mod tool_records;

pub use builder::Builder;
pub use running::listener::Listener;
pub use running::start_error::StartError;
pub use running::{Additions, RunningGateway};
pub use stack::{AddedLayer, Position};
pub use status::{LIMIT_FINDING_CODE, bucket_json};
pub use tokio_util::sync::CancellationToken;
/// Audit records.
pub use vmcp_audit as audit;
/// The configuration.
pub use vmcp_config as config;
/// The domain types: the `Gateway` trait that a layer implements, and the types that a caller passes to it.
pub use vmcp_domain as domain;
pub use vmcp_edge::{ListenSocket, StopSignals};
pub use vmcp_json as json;

/// The time of day as RFC 3339, in UTC.
#[must_use]
pub fn time_of_day() -> String {
    vmcp_audit::format_time(vmcp_timing::time_of_day().0)
}
