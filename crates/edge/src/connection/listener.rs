//! The HTTP listener: accepts connections, bounds their number, sets time-outs, and shuts down gracefully.
//! `http::router` answers the requests.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmcp_domain::{GatewayInfo, SharedGateway};

use crate::admin::AdminPages;
use crate::connection::head_timer::HeadTimer;
use crate::connection::stall_timeout::StallTimeout;
use crate::connection::worker_threads::WorkerThreads;
use crate::http::request_observer::RequestObserver;
use crate::http::router::{self, Router};
use crate::policy::{EdgeLimits, EdgePolicy};
use crate::request::admission::AddressLimiter;
use crate::request::slots::STREAM_COUNT_MAX;
use crate::state::EdgeState;

/// The length of the system's queue of connections that are not accepted yet.
const BACKLOG: u32 = 1024;
/// Connections allowed beyond one for each request and each stream of changes.
const SPARE_CONNECTION_COUNT: usize = 1024;
/// The minimum of hyper's `max_buf_size`, which panics below it.
const HEAD_BYTES_MIN: usize = 8 << 10;
/// The pause after a failed accept, for example when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The minimum time between two log messages about failed accepts.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// The maximum number of concurrent requests on one HTTP/2 connection.
const CONCURRENT_STREAMS_MAX: u32 = 256;

/// A bound address. It can be bound before the gateway starts, so that an address in use is reported before any
/// backend is started.
#[derive(Debug)]
pub struct ListenSocket {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl ListenSocket {
    /// Binds `address`. Clients may connect from now on. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }
}

/// The client edge over HTTP. One listener serves versions with sessions and 2026-07-28.
pub struct HttpEdge {
    router: Router,
    socket: ListenSocket,
    threads: usize,
}

impl std::fmt::Debug for HttpEdge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpEdge").field("address", &self.socket.address).finish_non_exhaustive()
    }
}

impl HttpEdge {
    /// Binds `policy.listen`, and serves clients there as [`Self::new`] does.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub fn bind(
        policy: EdgePolicy,
        gateway: SharedGateway,
        gateway_info: Arc<dyn GatewayInfo>,
        admin_pages: Option<Arc<dyn AdminPages>>,
    ) -> io::Result<Self> {
        let socket = ListenSocket::bind(policy.listen)?;
        Ok(Self::new(socket, policy, gateway, gateway_info, admin_pages))
    }

    /// Clients that connect to `socket` are answered once [`Self::serve`] runs.
    ///
    /// `admin_pages` supplies the pages at paths other than the MCP endpoint.
    #[must_use]
    pub fn new(
        socket: ListenSocket,
        policy: EdgePolicy,
        gateway: SharedGateway,
        gateway_info: Arc<dyn GatewayInfo>,
        admin_pages: Option<Arc<dyn AdminPages>>,
    ) -> Self {
        let edge = EdgeState::new(policy, gateway, gateway_info);
        Self { router: Router { edge, admin_pages, observer: None }, socket, threads: 0 }
    }

    /// Reports each request to the MCP endpoint to `observer`.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn RequestObserver>) -> Self {
        self.router.observer = Some(observer);
        self
    }

    /// Serves connections on `threads` dedicated threads instead of on the runtime that [`Self::serve`] runs
    /// on. With 0, the default, it uses that runtime.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The bound address, with the port that the system chose if the configured port is 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.address
    }

    /// Serves clients until `shutdown` is cancelled. Then it accepts no more connections and ends idle
    /// connections and streams of changes. In-flight calls may finish within [`EdgeLimits::calls_grace`];
    /// after that they are dropped. Returns the time at which shutdown began.
    ///
    /// # Errors
    ///
    /// If the worker threads cannot be started. An error on a connection ends only that connection.
    pub async fn serve(self, shutdown: CancellationToken) -> io::Result<Instant> {
        let Self { router, socket: ListenSocket { listener, .. }, threads } = self;
        let router = Arc::new(router);
        let edge = Arc::clone(&router.edge);
        let limits = edge.policy.limits;
        let count = limits.request_count_max.saturating_add(STREAM_COUNT_MAX + SPARE_CONNECTION_COUNT);
        let mut server = Server {
            http: http_builder(&edge.policy),
            graceful: GracefulShutdown::new(),
            connections: JoinSet::new(),
            connection_permits: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
            address_limiter: AddressLimiter::new(limits.connections_per_address_max),
            threads: WorkerThreads::start(threads)?,
            router,
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = server.accept(&listener) => {}
            () = sweep(&edge) => {}
        }
        let began = Instant::now();
        drop(listener);
        edge.stopping.cancel();
        edge.sessions.close_questions();
        edge.pending_calls.close_questions();
        edge.call_tracker.close();
        let Server { graceful, mut connections, threads: _threads, .. } = server;
        let finished = async {
            graceful.shutdown().await;
            while connections.join_next().await.is_some() {}
            edge.call_tracker.wait().await;
        };
        if tokio::time::timeout(limits.calls_grace(), finished).await.is_err() {
            tracing::warn!("calls still running at the end of the grace period are dropped");
        }
        edge.abort.cancel();
        edge.sessions.clear();
        connections.shutdown().await;
        edge.call_tracker.wait().await;
        Ok(began)
    }
}

struct Server {
    router: Arc<Router>,
    http: auto::Builder<TokioExecutor>,
    graceful: GracefulShutdown,
    /// Connections are aborted through this set. If each connection polled a shared cancellation token
    /// instead, all connections would contend on that token at every poll.
    connections: JoinSet<()>,
    connection_permits: Arc<Semaphore>,
    address_limiter: Arc<AddressLimiter>,
    threads: WorkerThreads,
}

impl Server {
    /// Accepts connections and never returns. When the connection limit is reached, it waits until a
    /// connection ends.
    async fn accept(&mut self, listener: &TcpListener) {
        let connection_permits = Arc::clone(&self.connection_permits);
        let accept = async || {
            let permit = Arc::clone(&connection_permits).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?, permit))
        };
        let mut last_logged: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = accept() => accepted,
                Some(_ended) = self.connections.join_next() => continue,
            };
            match accepted {
                Ok(((stream, peer), permit)) => {
                    self.spawn_connection(stream, peer.ip().to_canonical(), permit)
                }
                Err(error) => {
                    if last_logged.is_none_or(|last_logged| last_logged.elapsed() >= ACCEPT_LOG_INTERVAL) {
                        tracing::warn!(%error, "connections cannot be accepted; trying again");
                        last_logged = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn_connection(&mut self, stream: TcpStream, peer: IpAddr, permit: OwnedSemaphorePermit) {
        let is_proxy = self.router.edge.policy.trusted_proxies.iter().any(|network| network.contains(&peer));
        let address = if is_proxy { None } else { self.address_limiter.acquire(peer) };
        if address.is_none() && !is_proxy {
            tracing::warn!(
                %peer,
                connections_max = self.router.edge.policy.limits.connections_per_address_max,
                "an address has as many connections as it may have; another was closed"
            );
            return;
        }
        // With Nagle's algorithm, an event would wait until the client acknowledges the previous one.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let EdgeLimits { head_timeout, write_stall_max, .. } = self.router.edge.policy.limits;
        let (router, mut http) = (Arc::clone(&self.router), self.http.clone());
        http.http1().timer(HeadTimer::default());
        let watcher = self.graceful.watcher();
        let assigned = self.threads.assign();
        let runtime = assigned.as_ref().map_or_else(Handle::current, |(runtime, _)| runtime.clone());
        let is_moved = assigned.is_some();
        let serving = async move {
            let _load_guard = assigned;
            // From here on the worker thread's own runtime receives the I/O events of this stream.
            let stream = if is_moved { reregister_stream(stream) } else { Ok(stream) };
            let stream = match stream {
                Ok(stream) => TokioIo::new(StallTimeout::new(stream, head_timeout, write_stall_max)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be given to its thread");
                    return;
                }
            };
            let service = service_fn(move |request: Request<Incoming>| {
                router::serve(Arc::clone(&router), peer, request)
            });
            let connection = watcher.watch(http.serve_connection(stream, service).into_owned());
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop((permit, address));
        };
        self.connections.spawn_on(serving, &runtime);
    }
}

/// Registers a stream with the runtime of the current thread.
fn reregister_stream(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

fn http_builder(policy: &EdgePolicy) -> auto::Builder<TokioExecutor> {
    let limits = &policy.limits;
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max.max(HEAD_BYTES_MIN));
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.keep_alive)
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX));
    http
}

/// Periodically ends idle sessions and drops answers that their clients do not read. Never returns.
async fn sweep(edge: &EdgeState) {
    let mut ticks = tokio::time::interval(edge.sessions.sweep_interval());
    loop {
        ticks.tick().await;
        edge.sessions.sweep();
        edge.stall_guard.sweep();
    }
}
