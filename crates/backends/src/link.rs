//! What every transport offers to the protocol: one request out, one outcome back, and a clean end.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use vmcp_domain::{BoxFuture, Json};

use crate::failure::Failure;
use crate::flights::{Flights, Ticket};
use crate::held::Held;
use crate::life::Lifeline;

/// One request, ready to travel.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: &'static str,
    /// The tool, prompt or resource, for transports that repeat it in a header.
    pub(crate) name: Option<String>,
    /// The parameters.
    pub(crate) params: Json,
    /// Further headers, for transports that have headers.
    pub(crate) headers: HeaderMap,
    /// True when asking twice does no harm.
    pub(crate) repeatable: bool,
    /// True for requests that stay open for as long as the connection lives.
    pub(crate) endless: bool,
    /// What is kept while the backend may be working on it.
    pub(crate) held: Option<Held>,
}

impl Request {
    /// A request of the gateway itself.
    pub(crate) fn upkeep(method: &'static str, params: Json) -> Self {
        let headers = HeaderMap::new();
        Self { method, name: None, params, headers, repeatable: true, endless: false, held: None }
    }
}

/// A connection as its transport sees it.
pub(crate) trait Link: Send + Sync {
    /// The requests under way.
    fn flights(&self) -> &Arc<Flights>;
    /// When the connection ends.
    fn life(&self) -> &Lifeline;
    /// True when the backend may keep state for this connection: it runs for it, or has given it a session.
    fn keeps_state(&self) -> bool;
    /// Sends a request and waits for its outcome. Dropping the future cancels the request at the backend.
    fn exchange<'a>(&'a self, ticket: &'a Ticket, request: Request) -> BoxFuture<'a, Result<Json, Failure>>;
    /// Ends the connection in good order, within `grace`.
    fn close(&self, grace: Duration) -> BoxFuture<'_, ()>;
}
