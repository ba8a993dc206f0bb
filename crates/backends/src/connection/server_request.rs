//! Requests from a backend to the gateway: `ping`, and questions to the client of a call.

use vmcp_domain::{AskError, Question};
use vmcp_json::Json;
use vmcp_wire::client::{question_error, read_question};
use vmcp_wire::jsonrpc::{self, Id, RpcError};
use vmcp_wire::{code, method};

use crate::connection::pending_requests::{Addressee, PendingRequests};

/// Maximum number of open questions on one connection.
pub(crate) const SERVER_REQUESTS_MAX: usize = 64;

/// A request of a backend, with its recipient at the time of its arrival.
#[derive(Debug)]
pub(crate) enum ServerRequest {
    /// A `ping`.
    Ping,
    /// A question to a client.
    Question(Question, Addressee),
    /// A request with an unknown method.
    Unknown,
}

impl ServerRequest {
    /// Parses a request. `request_id` is the request that owns the stream on which it arrived; `None` for a stream
    /// that belongs to no request.
    pub(crate) fn read(
        method: &str,
        params: Option<Json>,
        pending_requests: &PendingRequests,
        request_id: Option<u64>,
    ) -> Self {
        if method == method::PING {
            return Self::Ping;
        }
        match read_question(method, params) {
            Some(question) => {
                let addressee = pending_requests.find_addressee(request_id);
                if let Addressee::Client(client, _) = &addressee {
                    pending_requests.url_elicitations().register(&question, client);
                }
                Self::Question(question, addressee)
            }
            None => Self::Unknown,
        }
    }

    /// Builds the answer as a JSON-RPC message. Waits for the client at most until its call ends.
    pub(crate) async fn reply(self, id: Id) -> Vec<u8> {
        let (question, addressee) = match self {
            Self::Ping => return jsonrpc::write_result(&id, 2, |out| out.extend_from_slice(b"{}")),
            Self::Unknown => {
                let error = RpcError::new(code::METHOD_NOT_FOUND, "method not found");
                return jsonrpc::write_error(Some(&id), &error);
            }
            Self::Question(question, addressee) => (question, addressee),
        };
        let answer = match addressee {
            Addressee::Nobody => Err(AskError::Unreachable),
            Addressee::Ambiguous => {
                let text = "calls of several clients may be under way, and nothing tells which of them this question is about";
                return jsonrpc::write_error(Some(&id), &RpcError::new(code::INTERNAL_ERROR, text));
            }
            Addressee::Client(client, cancellation) => tokio::select! {
                answer = client.ask(question) => answer,
                () = cancellation.cancelled() => Err(AskError::Unreachable),
            },
        };
        match answer {
            Ok(result) => jsonrpc::write_result(&id, result.as_str().len(), |out| {
                out.extend_from_slice(result.as_str().as_bytes());
            }),
            Err(error) => jsonrpc::write_error(Some(&id), &question_error(&error)),
        }
    }
}

/// The error for a request that arrives while `SERVER_REQUESTS_MAX` others are open.
pub(crate) fn too_many_requests_error(id: &Id) -> Vec<u8> {
    jsonrpc::write_error(Some(id), &RpcError::new(code::INTERNAL_ERROR, "too many questions at a time"))
}
