//! Observation of requests to the MCP endpoint, for metrics. When a request ends, the observer receives its
//! method, subject, status and duration.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;
use vmcp_wire::method;
use vmcp_wire::server::{ClientRequest, mcp_name_value};

/// The status that is reported if the client disconnects before there is a response.
const CLIENT_GONE: u16 = 499;
/// The label of a method that the protocol does not define. It bounds the number of label values.
const OTHER: &str = "other";

/// A request that has ended.
#[derive(Debug)]
pub struct ObservedRequest<'a> {
    /// The HTTP method; `other` if it is not one that clients commonly send.
    pub http_method: &'static str,
    /// The status of the response; 499 if the client disconnected before there was one.
    pub status: u16,
    /// The JSON-RPC method; `other` if the protocol does not define it. `None` for a response or without a
    /// message.
    pub method: Option<&'static str>,
    /// The name of the tool or prompt, or the URI of the resource, as the client wrote it. `None` for other
    /// requests.
    pub subject: Option<&'a str>,
    /// The time from the request head to the last byte of the response body, or to the disconnect of the
    /// client.
    pub duration: Duration,
}

/// Observes requests to the MCP endpoint. The methods run on the threads that serve requests, so they must
/// not block.
pub trait RequestObserver: Send + Sync {
    /// A request has arrived.
    fn on_start(&self);
    /// A request has ended. Called once for each call of [`Self::on_start`].
    fn on_end(&self, request: &ObservedRequest<'_>);
}

/// What one message requests.
#[derive(Debug, Default)]
pub(crate) struct ObservedMessage {
    method: Option<&'static str>,
    subject: Option<String>,
}

impl ObservedMessage {
    /// Records the method.
    pub(crate) fn set_method(&mut self, name: &str) {
        self.method = Some(method::lookup(name).unwrap_or(OTHER));
    }

    /// Records the subject of the request.
    pub(crate) fn set_subject(&mut self, request: &ClientRequest) {
        // A task identifier is not a name, and every value would be a new label.
        let is_named = !matches!(request, ClientRequest::Task(..));
        self.subject = mcp_name_value(request).filter(|_| is_named).map(str::to_owned);
    }
}

/// A request under observation. Dropping it reports the end of the request.
pub(crate) struct RequestObservation {
    observer: Arc<dyn RequestObserver>,
    http_method: &'static str,
    started_at: Instant,
    status: u16,
    pub(crate) message: ObservedMessage,
}

impl RequestObservation {
    pub(crate) fn start(observer: &Arc<dyn RequestObserver>, http_method: &Method) -> Self {
        observer.on_start();
        let http_method = match http_method.as_str() {
            "POST" => "POST",
            "GET" => "GET",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            "HEAD" => "HEAD",
            _ => OTHER,
        };
        Self {
            observer: Arc::clone(observer),
            http_method,
            started_at: Instant::now(),
            status: CLIENT_GONE,
            message: ObservedMessage::default(),
        }
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for RequestObservation {
    fn drop(&mut self) {
        self.observer.on_end(&ObservedRequest {
            http_method: self.http_method,
            status: self.status,
            method: self.message.method,
            subject: self.message.subject.as_deref(),
            duration: self.started_at.elapsed(),
        });
    }
}
