//! What every transport offers to the protocol: one request out, one outcome back, and a clean end.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use vmcp_domain::{BoxFuture, Json};

use crate::call_hold::CallHold;
use crate::connection::close_signal::CloseSignal;
use crate::connection::pending_requests::{PendingRequests, RequestHandle};
use crate::failure::Failure;

/// One request, ready to travel.
#[derive(Clone, Debug)]
pub(crate) struct McpRequest {
    /// The method.
    pub(crate) method: &'static str,
    /// The tool, prompt or resource, for transports that repeat it in a header.
    pub(crate) name: Option<String>,
    /// The parameters.
    pub(crate) params: Json,
    /// Further headers, for transports that have headers.
    pub(crate) headers: HeaderMap,
    /// True when asking twice does no harm.
    pub(crate) is_idempotent: bool,
    /// True for requests that stay open for as long as the connection lives.
    pub(crate) is_long_lived: bool,
    /// What is kept while the backend may be working on it.
    pub(crate) hold: Option<CallHold>,
}

impl McpRequest {
    /// A request of the gateway itself.
    pub(crate) fn maintenance(method: &'static str, params: Json) -> Self {
        let headers = HeaderMap::new();
        Self { method, name: None, params, headers, is_idempotent: true, is_long_lived: false, hold: None }
    }
}

/// A connection as its transport sees it.
pub(crate) trait Link: Send + Sync {
    /// The requests under way.
    fn pending_requests(&self) -> &Arc<PendingRequests>;
    /// When the connection ends.
    fn close_signal(&self) -> &CloseSignal;
    /// True when the backend may keep state for this connection: it runs for it, or has given it a session.
    fn is_stateful(&self) -> bool;
    /// Sends a request and waits for its outcome. Dropping the future cancels the request at the backend.
    fn exchange<'a>(
        &'a self,
        ticket: &'a RequestHandle,
        request: McpRequest,
    ) -> BoxFuture<'a, Result<Json, Failure>>;
    /// Ends the connection in good order, within `grace`.
    fn close(&self, grace: Duration) -> BoxFuture<'_, ()>;
}
