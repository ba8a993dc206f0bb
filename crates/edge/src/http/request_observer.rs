//! What is told of each request to the MCP endpoint when it has ended: what was asked, the status, and how long it took
//! until the last byte of the answer was taken.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;
use vmcp_wire::method;
use vmcp_wire::server::{ClientRequest, mcp_name_value};

/// What a request is counted as when its client is gone before there is a status.
const CLIENT_GONE: u16 = 499;
/// The label of a method that the protocol does not have.
const OTHER: &str = "other";

/// A request that has ended.
#[derive(Debug)]
pub struct ObservedRequest<'a> {
    /// The HTTP method; `other` if it is none of the endpoint's.
    pub http_method: &'static str,
    /// The status of the response; 499 if the client went away before there was one.
    pub status: u16,
    /// The method of the message; `other` if it is not known. `None` if there was no message, or a response.
    pub method: Option<&'static str>,
    /// The tool, the prompt or the resource that it is about, as the client wrote it.
    pub subject: Option<&'a str>,
    /// The time from its head to the last byte of the answer.
    pub duration: Duration,
}

/// Hears of requests to the MCP endpoint. Called on the threads that serve them, so it must not block.
pub trait RequestObserver: Send + Sync {
    /// A request has come.
    fn on_start(&self);
    /// A request has ended. Each that began ends once.
    fn on_end(&self, request: &ObservedRequest<'_>);
}

/// What a message asks for.
#[derive(Debug, Default)]
pub(crate) struct ObservedMessage {
    method: Option<&'static str>,
    subject: Option<String>,
}

impl ObservedMessage {
    /// Takes note of the method.
    pub(crate) fn set_method(&mut self, name: &str) {
        self.method = Some(method::lookup(name).unwrap_or(OTHER));
    }

    /// Takes note of what the request is about.
    pub(crate) fn set_subject(&mut self, request: &ClientRequest) {
        // Identifiers of tasks are no names.
        let is_named = !matches!(request, ClientRequest::Task(..));
        self.subject = mcp_name_value(request).filter(|_| is_named).map(str::to_owned);
    }
}

/// A request under observation. Its end is told when this is dropped.
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
