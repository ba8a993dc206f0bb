//! Scripted HTTP servers: a handler receives every form and returns any response.

use std::collections::BTreeMap;
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

/// One received form.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedForm {
    pub(crate) http_method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) form: BTreeMap<String, String>,
    /// The number of forms received before this one.
    pub(crate) number: usize,
}

impl ReceivedForm {
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        self.form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

pub(crate) type HttpReply = Response<BoxBody<Bytes, io::Error>>;
type HandlerFuture = Pin<Box<dyn Future<Output = HttpReply> + Send>>;
type Handler = dyn Fn(ReceivedForm) -> HandlerFuture + Send + Sync;

/// A running server. Dropping it stops the server.
pub(crate) struct ScriptedServer {
    address: SocketAddr,
    forms: Arc<Mutex<Vec<ReceivedForm>>>,
    accept_task: JoinHandle<()>,
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.accept_task.abort();
    }
}

impl ScriptedServer {
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn forms(&self) -> Vec<ReceivedForm> {
        self.forms.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.forms.lock().unwrap().len()
    }
}

/// Starts a server on a free port.
pub(crate) async fn serve<F, R>(handler: F) -> ScriptedServer
where
    F: Fn(ReceivedForm) -> R + Send + Sync + 'static,
    R: Future<Output = HttpReply> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let forms = Arc::new(Mutex::new(Vec::new()));
    let handler: Arc<Handler> = Arc::new(move |form_request| Box::pin(handler(form_request)));
    let accept_task = tokio::spawn(accept(listener, handler, Arc::clone(&forms)));
    ScriptedServer { address, forms, accept_task }
}

/// Starts a server with a handler that never waits.
pub(crate) async fn serve_sync(
    handler: impl Fn(&ReceivedForm) -> HttpReply + Send + Sync + 'static,
) -> ScriptedServer {
    serve(move |form_request| std::future::ready(handler(&form_request))).await
}

async fn accept(listener: TcpListener, handler: Arc<Handler>, forms: Arc<Mutex<Vec<ReceivedForm>>>) {
    // Dropped with this task, so that stopping the server closes its connections.
    let mut connections_set = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (handler, forms) = (Arc::clone(&handler), Arc::clone(&forms));
        connections_set.spawn(async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (handler, forms) = (Arc::clone(&handler), Arc::clone(&forms));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let form_request = {
                        let mut forms = forms.lock().unwrap();
                        let form = form_urlencoded::parse(&body).into_owned().collect();
                        let form_request = ReceivedForm {
                            http_method: parts.method,
                            headers: parts.headers,
                            form,
                            number: forms.len(),
                        };
                        forms.push(form_request.clone());
                        form_request
                    };
                    Ok::<_, Infallible>(handler(form_request).await)
                }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

pub(crate) fn reply_text(status: u16, body: impl Into<Bytes>) -> HttpReply {
    let whole = Full::new(body.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(StatusCode::from_u16(status).unwrap()).body(whole).unwrap()
}

pub(crate) fn reply_json(status: u16, body: &Value) -> HttpReply {
    with_header(reply_text(status, body.to_string()), "content-type", "application/json")
}

pub(crate) fn with_header(mut reply: HttpReply, name: &'static str, value: &str) -> HttpReply {
    reply.headers_mut().insert(name, value.parse().unwrap());
    reply
}

/// A response that breaks off in the middle.
pub(crate) fn reply_broken_off() -> HttpReply {
    let pieces = [Ok(Frame::data(Bytes::from_static(b"{\"access_token\":"))), Err(io::Error::other("gone"))];
    Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(pieces))))
}

/// A response that never ends.
pub(crate) fn reply_endless() -> HttpReply {
    let piece = Bytes::from(vec![b' '; 16 << 10]);
    let pieces = futures_util::stream::repeat_with(move || Ok(Frame::data(piece.clone())));
    Response::new(BodyExt::boxed(StreamBody::new(pieces)))
}
