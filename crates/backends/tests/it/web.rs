//! The scripted server of the testkit with what MCP backends receive and return.

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;
pub(crate) use vmcp_testkit::web::{
    HttpReply, ReceivedRequest, ScriptedServer, reply_bytes, reply_json, serve, serve_at,
};

/// What the tests ask a server of this crate.
pub(crate) trait McpServer {
    /// The URL of the MCP endpoint.
    fn url(&self) -> String;

    /// The requests with this JSON-RPC method.
    fn with_method(&self, method: &str) -> Vec<ReceivedRequest>;

    /// Waits until there is a request that satisfies `predicate`.
    async fn wait_for_request(&self, predicate: impl Fn(&ReceivedRequest) -> bool) -> ReceivedRequest;
}

impl McpServer for ScriptedServer {
    fn url(&self) -> String {
        format!("{}/mcp", self.base())
    }

    fn with_method(&self, method: &str) -> Vec<ReceivedRequest> {
        self.requests().into_iter().filter(|request| request.rpc_method() == method).collect()
    }

    async fn wait_for_request(&self, predicate: impl Fn(&ReceivedRequest) -> bool) -> ReceivedRequest {
        crate::eventually(|| self.requests().into_iter().find(|request| predicate(request))).await
    }
}

pub(crate) fn reply_empty(status: u16) -> HttpReply {
    reply_bytes(status, "text/plain", "")
}

pub(crate) fn reply_result(request: &ReceivedRequest, result: &Value) -> HttpReply {
    reply_json(200, &json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result}))
}

pub(crate) fn reply_error(status: u16, id: &Value, code: i64, message: &str) -> HttpReply {
    reply_json(status, &json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}))
}

/// An event stream of the text sent to the channel; it ends when the sender is dropped.
pub(crate) fn event_stream() -> (mpsc::UnboundedSender<String>, HttpReply) {
    let (sender, receiver) = mpsc::unbounded_channel::<String>();
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let text = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from(text))), receiver))
    });
    let reply = Response::builder()
        .header("content-type", "text/event-stream")
        .body(BoxBody::new(StreamBody::new(frames)))
        .unwrap();
    (sender, reply)
}

/// Encodes one event.
pub(crate) fn encode_event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

pub(crate) fn result_message(request: &ReceivedRequest, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result})
}

/// The answers of a regular server of 2026-07-28, for everything that a script does not answer itself.
pub(crate) fn reply_stateless(request: &ReceivedRequest) -> HttpReply {
    if request.http_method != Method::POST {
        return reply_empty(405);
    }
    match request.rpc_method() {
        "server/discover" => reply_result(
            request,
            &json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}}, "instructions": "be kind"}),
        ),
        _ => reply_common(request),
    }
}

/// The answers of a regular server of 2025-11-25, for everything that a script does not answer itself.
pub(crate) fn reply_with_sessions(request: &ReceivedRequest) -> HttpReply {
    match (&request.http_method, request.rpc_method()) {
        (&Method::DELETE, _) => reply_empty(200),
        (&Method::GET, _) => reply_empty(405),
        (_, "initialize") => {
            let mut reply = reply_result(
                request,
                &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "logging": {}},
                        "serverInfo": {"name": "s", "version": "1"}}),
            );
            reply.headers_mut().insert("mcp-session-id", "session-1".parse().unwrap());
            reply
        }
        (_, "server/discover") => {
            reply_error(400, &Value::Null, -32000, "Bad Request: Server not initialized")
        }
        _ if request.body.get("id").is_none() || request.body.get("method").is_none() => reply_empty(202),
        (_, "logging/setLevel" | "ping" | "resources/subscribe") => reply_result(request, &json!({})),
        _ => reply_common(request),
    }
}

fn reply_common(request: &ReceivedRequest) -> HttpReply {
    match request.rpc_method() {
        "tools/list" => {
            reply_result(request, &json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}))
        }
        "tools/call" => reply_result(request, &echo_result(request)),
        _ => reply_error(404, &request.body["id"], -32601, "Method not found"),
    }
}

/// A result that contains the arguments.
pub(crate) fn echo_result(request: &ReceivedRequest) -> Value {
    json!({"content": [], "structuredContent": request.body["params"]["arguments"]})
}
