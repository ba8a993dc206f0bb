//! The listener for operators. It serves pages but no MCP, to every peer that reaches its address, so its
//! address is a loopback one unless the operator chooses otherwise. A request that changes something also
//! needs a token. `Host` (on a loopback address) and `Origin` are checked, so a web page in a browser cannot
//! use it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vmcp_wire::server::Refusal;

use super::{AccessLevel, AdminPage, AdminPages, page_for, respond};
use crate::connection::listener::ListenSocket;
use crate::http::body::ResponseBody;
use crate::http::{guard, response};

/// The maximum number of concurrent connections.
const CONNECTIONS_MAX: usize = 64;
/// The maximum lifetime of a connection. Operators reconnect; a long-lived connection is not needed.
const CONNECTION_LIFETIME_MAX: Duration = Duration::from_secs(60);
/// The time-out for reading a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest body of a POST, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The pause after a failed accept, so that a lasting failure does not use a whole CPU.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A bound admin listener. It serves nothing until [`Self::serve`] runs.
pub struct AdminListener {
    socket: ListenSocket,
    pages: Arc<dyn AdminPages>,
}

impl AdminListener {
    /// Binds `address`. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub fn bind(address: SocketAddr, pages: Arc<dyn AdminPages>) -> io::Result<Self> {
        Ok(Self { socket: ListenSocket::bind(address)?, pages })
    }

    /// The bound address, with the port that the system chose if `address` had port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.address
    }

    /// Serves pages until `shutdown` is cancelled, which also ends the open connections.
    pub async fn serve(self, shutdown: CancellationToken) {
        let connection_permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let is_loopback = self.socket.address.ip().is_loopback();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.socket.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            };
            // At the limit, a new connection is closed at once.
            let Ok(permit) = Arc::clone(&connection_permits).try_acquire_owned() else { continue };
            let (pages, stop) = (Arc::clone(&self.pages), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ended = timeout(CONNECTION_LIFETIME_MAX, serve_connection(stream, pages, is_loopback)) => {}
                }
                drop(permit);
            });
        }
    }
}

async fn serve_connection(stream: TcpStream, pages: Arc<dyn AdminPages>, is_loopback: bool) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(serve(&*pages, request, is_loopback).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 << 10);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the admin listener broke");
    }
}

async fn serve(
    pages: &dyn AdminPages,
    request: Request<Incoming>,
    is_loopback: bool,
) -> Response<ResponseBody> {
    let host_fits = !is_loopback || guard::is_for_loopback(request.headers(), request.uri());
    if !host_fits {
        return refuse(&request, &Refusal::InvalidHost);
    }
    if request.headers().contains_key(http::header::ORIGIN) {
        return refuse(&request, &Refusal::InvalidOrigin);
    }
    let method = request.method().clone();
    let page = match method {
        Method::GET | Method::HEAD => {
            page_for(pages, request.uri().path(), request.headers(), AccessLevel::Operator)
        }
        Method::POST => {
            let path = request.uri().path().to_owned();
            let done = handle_post(pages, request).await;
            if done.is_none() && pages.page(&path, AccessLevel::Operator, "").is_some() {
                return response::method_not_allowed("GET, HEAD");
            }
            done
        }
        _ => return response::method_not_allowed("GET, HEAD, POST"),
    };
    match page {
        Some(page) => respond(page, &method),
        None => response::refusal_response(&Refusal::NotFound, None),
    }
}

/// Refuses a request that may come from a web page, and logs its headers for the operator.
fn refuse(request: &Request<Incoming>, refusal: &Refusal) -> Response<ResponseBody> {
    let header = |name| request.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    tracing::info!(
        host = header(http::header::HOST),
        origin = header(http::header::ORIGIN),
        %refusal,
        "a request to the admin listener was refused: on a loopback address it answers to loopback names only, and \
         never to web pages"
    );
    response::refusal_response(refusal, None)
}

/// Passes a POST to the gateway. The body is read whole first, up to [`BODY_BYTES_MAX`]. `None` if no action
/// exists at the path.
async fn handle_post(pages: &dyn AdminPages, request: Request<Incoming>) -> Option<AdminPage> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        let text =
            format!(r#"{{"error":"the body cannot be read, or has more than {BODY_BYTES_MAX} bytes"}}"#);
        return Some(AdminPage { status: 413, content_type: "application/json", body: text.into() });
    };
    let token = parts.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    pages.handle_post(parts.uri.path(), token, body.to_bytes()).await
}
