//! Scripted HTTP servers: a handler receives every request and chooses the response.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One received request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) http_method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// The body as text.
    pub(crate) text: String,
}

impl ReceivedRequest {
    /// The JSON-RPC method of the message; empty for requests without a body.
    pub(crate) fn rpc_method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

pub(crate) type HttpReply = Response<BoxBody<Bytes, Infallible>>;
type HandlerFuture = Pin<Box<dyn Future<Output = HttpReply> + Send>>;
type Handler = dyn Fn(ReceivedRequest) -> HandlerFuture + Send + Sync;

/// A running server.
pub(crate) struct ScriptedServer {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    accept_task: JoinHandle<()>,
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.accept_task.abort();
    }
}

impl ScriptedServer {
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The requests with this JSON-RPC method.
    pub(crate) fn with_method(&self, method: &str) -> Vec<ReceivedRequest> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.rpc_method() == method).cloned().collect()
    }

    /// Waits until there is a request that satisfies `predicate`.
    pub(crate) async fn wait_for_request(
        &self,
        predicate: impl Fn(&ReceivedRequest) -> bool,
    ) -> ReceivedRequest {
        crate::eventually(|| self.requests.lock().unwrap().iter().find(|request| predicate(request)).cloned())
            .await
    }
}

/// Serves on a free port.
pub(crate) async fn serve<F, R>(handler: F) -> ScriptedServer
where
    F: Fn(ReceivedRequest) -> R + Send + Sync + 'static,
    R: Future<Output = HttpReply> + Send + 'static,
{
    serve_at("127.0.0.1:0".parse().unwrap(), handler).await
}

/// Serves at the given address.
pub(crate) async fn serve_at<F, R>(address: SocketAddr, handler: F) -> ScriptedServer
where
    F: Fn(ReceivedRequest) -> R + Send + Sync + 'static,
    R: Future<Output = HttpReply> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(AtomicUsize::new(0));
    let handler: Arc<Handler> = Arc::new(move |request| Box::pin(handler(request)));
    let accept_task =
        tokio::spawn(accept(listener, handler, Arc::clone(&requests), Arc::clone(&connections)));
    ScriptedServer { address, requests, connections, accept_task }
}

async fn accept(
    listener: TcpListener,
    handler: Arc<Handler>,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    connections: Arc<AtomicUsize>,
) {
    // The connections are dropped with this task, so that stopping the server closes them.
    let mut connections_set = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        stream.set_nodelay(true).unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
        connections_set.spawn(async move {
            let service = service_fn(move |http_request: http::Request<hyper::body::Incoming>| {
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                async move {
                    let (parts, body) = http_request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let request = ReceivedRequest {
                        http_method: parts.method,
                        path: parts.uri.to_string(),
                        headers: parts.headers,
                        body: serde_json::from_slice(&body).unwrap_or_default(),
                        text: String::from_utf8_lossy(&body).into_owned(),
                    };
                    requests.lock().unwrap().push(request.clone());
                    Ok::<_, Infallible>(handler(request).await)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

pub(crate) fn reply_bytes(status: u16, kind: &str, body: impl Into<Bytes>) -> HttpReply {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", kind)
        .body(Full::new(body.into()).boxed())
        .unwrap()
}

pub(crate) fn reply_json(status: u16, body: &Value) -> HttpReply {
    reply_bytes(status, "application/json", body.to_string())
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
