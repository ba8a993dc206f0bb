//! How a script finds tools.

use vmcp_domain::{CallContext, GatewayFuture, ToolName};

/// Finds tools by what they do.
pub trait ToolSearch: Send + Sync {
    /// The names of the tools of this caller that fit, best first.
    fn search<'a>(&'a self, ctx: &'a CallContext, query: &'a str) -> GatewayFuture<'a, Vec<ToolName>>;
}
