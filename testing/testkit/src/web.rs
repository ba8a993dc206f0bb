//! Scripted HTTP servers: a handler receives every request and returns any response.

use std::convert::Infallible;
use std::future::Future;
use std::io;
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
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// One received request.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// The HTTP method.
    pub http_method: Method,
    /// The path with the query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; `null` if it is not JSON.
    pub body: Value,
    /// The body as text.
    pub text: String,
    /// The number of requests received before this one.
    pub number: usize,
}

impl ReceivedRequest {
    /// The JSON-RPC method of the message; empty for requests without a message.
    #[must_use]
    pub fn rpc_method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    /// The value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A response.
pub type HttpReply = Response<BoxBody<Bytes, io::Error>>;
type HandlerFuture = Pin<Box<dyn Future<Output = HttpReply> + Send>>;
type Handler = dyn Fn(ReceivedRequest) -> HandlerFuture + Send + Sync;

/// What the connections of a server share.
struct ServerState {
    handler: Box<Handler>,
    requests: Mutex<Vec<ReceivedRequest>>,
    connection_count: AtomicUsize,
}

/// A running server. Dropping it stops the server and closes its connections.
pub struct ScriptedServer {
    /// The address of the server.
    pub address: SocketAddr,
    state: Arc<ServerState>,
    accept_task: JoinHandle<()>,
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.accept_task.abort();
    }
}

impl ScriptedServer {
    /// The URL of the server, without a path.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests in the order in which they were received.
    ///
    /// # Panics
    /// After a panic of the server.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The number of connections that were opened.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.state.connection_count.load(Ordering::SeqCst)
    }
}

/// Starts a server on a free port of this machine.
///
/// # Panics
/// If there is none.
pub async fn serve<F, R>(handler: F) -> ScriptedServer
where
    F: Fn(ReceivedRequest) -> R + Send + Sync + 'static,
    R: Future<Output = HttpReply> + Send + 'static,
{
    serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler).await
}

/// Starts a server at this address.
///
/// # Panics
/// If the address is in use.
pub async fn serve_at<F, R>(address: SocketAddr, handler: F) -> ScriptedServer
where
    F: Fn(ReceivedRequest) -> R + Send + Sync + 'static,
    R: Future<Output = HttpReply> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::new(ServerState {
        handler: Box::new(move |request| Box::pin(handler(request))),
        requests: Mutex::default(),
        connection_count: AtomicUsize::new(0),
    });
    let accept_task = tokio::spawn(accept(listener, Arc::clone(&state)));
    ScriptedServer { address, state, accept_task }
}

/// Starts a server with a handler that never waits.
pub async fn serve_sync(
    handler: impl Fn(&ReceivedRequest) -> HttpReply + Send + Sync + 'static,
) -> ScriptedServer {
    serve(move |request| std::future::ready(handler(&request))).await
}

async fn accept(listener: TcpListener, state: Arc<ServerState>) {
    // The connections are dropped with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        state.connection_count.fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&state), request));
            let http = hyper::server::conn::http1::Builder::new();
            // A client that disconnects is not an error.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    state: Arc<ServerState>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<HttpReply, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let request = {
        let mut requests = state.requests.lock().unwrap();
        let request = ReceivedRequest {
            http_method: parts.method,
            path: parts.uri.to_string(),
            headers: parts.headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
            text: String::from_utf8_lossy(&body).into_owned(),
            number: requests.len(),
        };
        requests.push(request.clone());
        request
    };
    Ok((state.handler)(request).await)
}

/// A response with a body of this content type.
///
/// # Panics
/// If the status or the content type is invalid.
pub fn reply_bytes(status: u16, content_type: &str, body: impl Into<Bytes>) -> HttpReply {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", content_type)
        .body(Full::new(body.into()).map_err(|never| match never {}).boxed())
        .unwrap()
}

/// A response with a JSON body.
#[must_use]
pub fn reply_json(status: u16, body: &Value) -> HttpReply {
    reply_bytes(status, "application/json", body.to_string())
}

/// The response with another value of a header.
///
/// # Panics
/// If the value is invalid.
#[must_use]
pub fn with_header(mut reply: HttpReply, name: &'static str, value: &str) -> HttpReply {
    reply.headers_mut().insert(name, value.parse().unwrap());
    reply
}

/// A response that breaks off after these bytes.
#[must_use]
pub fn reply_broken_off(start: &'static str) -> HttpReply {
    let pieces = [Ok(Frame::data(Bytes::from_static(start.as_bytes()))), Err(io::Error::other("gone"))];
    Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(pieces))))
}

/// A response that never ends.
#[must_use]
pub fn reply_endless() -> HttpReply {
    let piece = Bytes::from(vec![b' '; 16 << 10]);
    let pieces = futures_util::stream::repeat_with(move || Ok(Frame::data(piece.clone())));
    Response::new(BodyExt::boxed(StreamBody::new(pieces)))
}
