//! The interface that every transport offers to the protocol: one request out, one outcome back, and a
//! graceful close.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use vmcp_domain::BoxFuture;
use vmcp_json::Json;

use crate::call_hold::CallHold;
use crate::connection::close_signal::CloseSignal;
use crate::connection::pending_requests::{PendingRequests, RequestHandle};
use crate::failure::Failure;

/// One MCP request, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct McpRequest {
    /// The JSON-RPC method.
    pub(crate) method: &'static str,
    /// The name of the tool, resource, prompt or task, for transports that repeat it in a header.
    pub(crate) name: Option<String>,
    /// The JSON-RPC parameters.
    pub(crate) params: Json,
    /// Additional headers, for transports that have headers.
    pub(crate) headers: HeaderMap,
    /// True if sending the request twice does no harm.
    pub(crate) is_idempotent: bool,
    /// True for requests that remain open until the connection closes.
    pub(crate) is_long_lived: bool,
    /// The hold that is kept while the backend may be working on the request.
    pub(crate) hold: Option<CallHold>,
}

impl McpRequest {
    /// A request of the gateway itself: idempotent, without headers and without a hold.
    pub(crate) fn maintenance(method: &'static str, params: Json) -> Self {
        let headers = HeaderMap::new();
        Self { method, name: None, params, headers, is_idempotent: true, is_long_lived: false, hold: None }
    }
}

/// A connection as its transport implements it.
pub(crate) trait Link: Send + Sync {
    /// The in-flight requests.
    fn pending_requests(&self) -> &Arc<PendingRequests>;
    /// The signal that closes the connection.
    fn close_signal(&self) -> &CloseSignal;
    /// True if the backend may keep state for this connection: a process that runs for it, or an HTTP
    /// session.
    fn is_stateful(&self) -> bool;
    /// Sends a request and waits for its outcome. Dropping the future cancels the request at the backend.
    fn exchange<'a>(
        &'a self,
        ticket: &'a RequestHandle,
        request: McpRequest,
    ) -> BoxFuture<'a, Result<Json, Failure>>;
    /// Closes the connection gracefully, within `grace`.
    fn close(&self, grace: Duration) -> BoxFuture<'_, ()>;
}
