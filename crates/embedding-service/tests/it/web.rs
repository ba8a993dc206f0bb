//! Scripted HTTP servers: a handler receives every request unchanged and returns any response.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
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
pub(crate) struct RecordedRequest {
    pub(crate) verb: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// How many requests came before it.
    pub(crate) number: usize,
}

pub(crate) type Reply = Response<BoxBody<Bytes, io::Error>>;
type HandlerFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = dyn Fn(RecordedRequest) -> HandlerFuture + Send + Sync;

/// A running server.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    hits: Arc<Mutex<Vec<RecordedRequest>>>,
    accepting: JoinHandle<()>,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FakeServer {
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.hits.lock().unwrap().clone()
    }

    /// The requests that carry texts.
    pub(crate) fn posts(&self) -> Vec<RecordedRequest> {
        self.requests().into_iter().filter(|hit| hit.verb == Method::POST).collect()
    }
}

/// Serves an async handler on a free port.
pub(crate) async fn serve<F, R>(handler: F) -> FakeServer
where
    F: Fn(RecordedRequest) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hits = Arc::new(Mutex::new(Vec::new()));
    let handler: Arc<Handler> = Arc::new(move |hit| Box::pin(handler(hit)));
    let accepting = tokio::spawn(accept(listener, handler, Arc::clone(&hits)));
    FakeServer { address, hits, accepting }
}

/// Serves a synchronous handler on a free port.
pub(crate) async fn answer(
    handler: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
) -> FakeServer {
    serve(move |hit| std::future::ready(handler(&hit))).await
}

async fn accept(listener: TcpListener, handler: Arc<Handler>, hits: Arc<Mutex<Vec<RecordedRequest>>>) {
    // Dropped with this task, so that stopping the server closes its connections.
    let mut serving = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (handler, hits) = (Arc::clone(&handler), Arc::clone(&hits));
        serving.spawn(async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (handler, hits) = (Arc::clone(&handler), Arc::clone(&hits));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let hit = {
                        let mut hits = hits.lock().unwrap();
                        let hit = RecordedRequest {
                            verb: parts.method,
                            path: parts.uri.to_string(),
                            headers: parts.headers,
                            body: serde_json::from_slice(&body).unwrap_or_default(),
                            number: hits.len(),
                        };
                        hits.push(hit.clone());
                        hit
                    };
                    Ok::<_, Infallible>(handler(hit).await)
                }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

pub(crate) fn text(status: u16, body: impl Into<Bytes>) -> Reply {
    let whole = Full::new(body.into()).map_err(|never| match never {}).boxed();
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/json")
        .body(whole)
        .unwrap()
}

pub(crate) fn json(status: u16, body: &Value) -> Reply {
    text(status, body.to_string())
}

pub(crate) fn with_header(mut reply: Reply, name: &'static str, value: &str) -> Reply {
    reply.headers_mut().insert(name, value.parse().unwrap());
    reply
}

/// A response that breaks off after its first bytes.
pub(crate) fn truncated() -> Reply {
    let pieces = [Ok(Frame::data(Bytes::from_static(b"[[1.0,"))), Err(io::Error::other("gone"))];
    let body = StreamBody::new(futures_util::stream::iter(pieces));
    Response::new(BodyExt::boxed(body))
}

/// A response that never ends.
pub(crate) fn endless() -> Reply {
    let piece = Bytes::from(vec![b' '; 64 << 10]);
    let pieces = futures_util::stream::repeat_with(move || Ok(Frame::data(piece.clone())));
    Response::new(BodyExt::boxed(StreamBody::new(pieces)))
}

/// A response that announces a length and sends nothing.
pub(crate) fn announced(length: u64) -> Reply {
    let reply = Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::pending())));
    with_header(reply, "content-length", &length.to_string())
}
