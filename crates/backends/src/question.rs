//! Requests of a backend to us: `ping`, and questions to the client of the call they belong to.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use vmcp_domain::{AskError, ClientPort, Json};
use vmcp_wire::client::{answer_question, read_question};
use vmcp_wire::jsonrpc::{self, Id, RpcError};
use vmcp_wire::{code, method};

/// The most questions of one connection that are open at a time.
pub(crate) const QUESTIONS_MAX: usize = 64;

/// The answer to one request of a backend, as a message. Waits for the client at most until its call is `gone`.
pub(crate) async fn reply(
    id: Id,
    name: &str,
    params: Option<Json>,
    asked: Option<(Arc<dyn ClientPort>, CancellationToken)>,
) -> Vec<u8> {
    if name == method::PING {
        return jsonrpc::result(&id, 2, |out| out.extend_from_slice(b"{}"));
    }
    let Some(question) = read_question(name, params) else {
        return jsonrpc::error(Some(&id), &RpcError::new(code::METHOD_NOT_FOUND, "method not found"));
    };
    let answer = match asked {
        None => Err(AskError::Unreachable),
        Some((client, gone)) => tokio::select! {
            answer = client.ask(question) => answer,
            () = gone.cancelled() => Err(AskError::Unreachable),
        },
    };
    match answer {
        Ok(result) => jsonrpc::result(&id, result.as_str().len(), |out| {
            out.extend_from_slice(result.as_str().as_bytes());
        }),
        Err(error) => jsonrpc::error(Some(&id), &answer_question(&error)),
    }
}

/// The answer to a request that comes while too many others are open.
pub(crate) fn too_many(id: &Id) -> Vec<u8> {
    jsonrpc::error(Some(id), &RpcError::new(code::INTERNAL_ERROR, "too many questions at a time"))
}
