//! Scripted HTTP servers: a handler gets every request as it came and answers as it likes.

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

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) verb: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
}

impl Hit {
    /// The message's method; empty for requests without a body.
    pub(crate) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

pub(crate) type Reply = Response<BoxBody<Bytes, Infallible>>;
type Handling = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = dyn Fn(Hit) -> Handling + Send + Sync;

/// A running server.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    pub(crate) hits: Arc<Mutex<Vec<Hit>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Web {
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The requests whose message has this method.
    pub(crate) fn with_method(&self, method: &str) -> Vec<Hit> {
        let hits = self.hits.lock().unwrap();
        hits.iter().filter(|hit| hit.method() == method).cloned().collect()
    }

    /// Waits until there is a request that fits.
    pub(crate) async fn until(&self, fits: impl Fn(&Hit) -> bool) -> Hit {
        crate::eventually(|| self.hits.lock().unwrap().iter().find(|hit| fits(hit)).cloned()).await
    }
}

/// Serves on a free port.
pub(crate) async fn serve<F, R>(handler: F) -> Web
where
    F: Fn(Hit) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    serve_at("127.0.0.1:0".parse().unwrap(), handler).await
}

/// Serves at an address.
pub(crate) async fn serve_at<F, R>(address: SocketAddr, handler: F) -> Web
where
    F: Fn(Hit) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let hits = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(AtomicUsize::new(0));
    let handler: Arc<Handler> = Arc::new(move |hit| Box::pin(handler(hit)));
    let accepting = tokio::spawn(accept(listener, handler, Arc::clone(&hits), Arc::clone(&connections)));
    Web { address, hits, connections, accepting }
}

async fn accept(
    listener: TcpListener,
    handler: Arc<Handler>,
    hits: Arc<Mutex<Vec<Hit>>>,
    connections: Arc<AtomicUsize>,
) {
    // Dropped with this task, so that stopping the server closes its connections.
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        stream.set_nodelay(true).unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        let (handler, hits) = (Arc::clone(&handler), Arc::clone(&hits));
        serving.spawn(async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (handler, hits) = (Arc::clone(&handler), Arc::clone(&hits));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let hit = Hit {
                        verb: parts.method,
                        path: parts.uri.to_string(),
                        headers: parts.headers,
                        body: serde_json::from_slice(&body).unwrap_or_default(),
                        text: String::from_utf8_lossy(&body).into_owned(),
                    };
                    hits.lock().unwrap().push(hit.clone());
                    Ok::<_, Infallible>(handler(hit).await)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

pub(crate) fn bytes(status: u16, kind: &str, body: impl Into<Bytes>) -> Reply {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", kind)
        .body(Full::new(body.into()).boxed())
        .unwrap()
}

pub(crate) fn json(status: u16, body: &Value) -> Reply {
    bytes(status, "application/json", body.to_string())
}

pub(crate) fn empty(status: u16) -> Reply {
    bytes(status, "text/plain", "")
}

pub(crate) fn result(hit: &Hit, result: &Value) -> Reply {
    json(200, &json!({"jsonrpc": "2.0", "id": hit.body["id"], "result": result}))
}

pub(crate) fn error(status: u16, id: &Value, code: i64, message: &str) -> Reply {
    json(status, &json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}))
}

/// A stream of events whose data is sent to the channel; it ends when the sender is dropped.
pub(crate) fn events() -> (mpsc::UnboundedSender<String>, Reply) {
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

/// One event.
pub(crate) fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

pub(crate) fn answer(hit: &Hit, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": hit.body["id"], "result": result})
}

/// A well-behaved server of 2026-07-28, for everything a script does not answer itself.
pub(crate) fn stateless(hit: &Hit) -> Reply {
    if hit.verb != Method::POST {
        return empty(405);
    }
    match hit.method() {
        "server/discover" => result(
            hit,
            &json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}}, "instructions": "be kind"}),
        ),
        _ => ordinary(hit),
    }
}

/// A well-behaved server of 2025-11-25, for everything a script does not answer itself.
pub(crate) fn session(hit: &Hit) -> Reply {
    match (&hit.verb, hit.method()) {
        (&Method::DELETE, _) => empty(200),
        (&Method::GET, _) => empty(405),
        (_, "initialize") => {
            let mut reply = result(
                hit,
                &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "logging": {}},
                        "serverInfo": {"name": "s", "version": "1"}}),
            );
            reply.headers_mut().insert("mcp-session-id", "session-1".parse().unwrap());
            reply
        }
        (_, "server/discover") => error(400, &Value::Null, -32000, "Bad Request: Server not initialized"),
        _ if hit.body.get("id").is_none() || hit.body.get("method").is_none() => empty(202),
        (_, "logging/setLevel" | "ping" | "resources/subscribe") => result(hit, &json!({})),
        _ => ordinary(hit),
    }
}

fn ordinary(hit: &Hit) -> Reply {
    match hit.method() {
        "tools/list" => result(hit, &json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})),
        "tools/call" => result(hit, &echoed(hit)),
        _ => error(404, &hit.body["id"], -32601, "Method not found"),
    }
}

/// A result that holds the arguments.
pub(crate) fn echoed(hit: &Hit) -> Value {
    json!({"content": [], "structuredContent": hit.body["params"]["arguments"]})
}
