//! vmcp as a library: one MCP endpoint in front of many MCP servers.
//!
//! [`Builder`] takes a configuration, and layers of the program's own, and starts a [`RunningGateway`]. That can be
//! called in process, served over HTTP, or served on a pair of streams.
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
//! `examples/embed.rs` adds a layer that refuses calls outside working hours. The binary `vmcp` is this crate behind a
//! command line.

pub mod audit;
mod auth_metrics;
mod backend_metrics;
mod builder;
pub mod config;
mod directory;
mod metrics;
mod observe;
pub mod operator;
mod outlook;
pub mod process;
mod running;
mod search;
mod stack;
mod status;

pub use builder::{Builder, StartError};
pub use running::{Additions, Listener, RunningGateway};
pub use stack::{AddedLayer, Position};
pub use status::bucket_json;
pub use tokio_util::sync::CancellationToken;
/// The words of the seam: what a layer implements and what a caller passes in.
pub use vmcp_domain as domain;
pub use vmcp_edge::StopSignals;
