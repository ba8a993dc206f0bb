//! The validated settings of the client edge. `vmcp` builds them from the command line and the config file.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use vmcp_domain::{Authenticator, Identity, Secret};
use vmcp_wire::error_response::AnswerPolicy;

/// The settings of the client edge. `A` is the authenticator of callers with a bearer credential, or the
/// settings from which it is started.
#[derive(Clone, Debug)]
pub struct EdgePolicy<A = Arc<dyn Authenticator>> {
    /// The name and version that the gateway reports to clients.
    pub server: ServerInfo,
    /// The address of the HTTP listener.
    pub listen: SocketAddr,
    /// The path of the MCP endpoint, with a leading slash.
    pub path: String,
    /// How callers are identified.
    pub incoming: IncomingAuth<A>,
    /// Origins that browsers may call from, in addition to loopback origins on a loopback listener. `*`
    /// allows any origin.
    pub allowed_origins: Vec<String>,
    /// Host names that the listener accepts, in addition to loopback names. On a non-loopback listener, an
    /// empty list allows any host.
    pub allowed_hosts: Vec<String>,
    /// Client request headers that are passed to backends, in lower case.
    pub passthrough_headers: Vec<String>,
    /// Networks of trusted proxies: the edge reads their `X-Forwarded-For` header.
    pub trusted_proxies: Vec<IpNet>,
    /// The bearer key with which metrics collectors may read pages of the client listener.
    pub scrape_key: Option<Secret>,
    /// How failed requests are answered.
    pub answers: AnswerPolicy,
    /// Whether a session keeps the first complete list of tools that it received.
    pub freezes_tools: bool,
    /// The names of the tools that no backend offers.
    pub virtual_tools: Vec<String>,
    /// The limits on what clients may use.
    pub limits: EdgeLimits,
}

impl<A> EdgePolicy<A> {
    /// The same policy with the authenticator that `start` makes of these settings.
    ///
    /// # Errors
    /// The error of `start`.
    pub fn start_authenticator<B, E>(
        self,
        start: impl FnOnce(A) -> Result<B, E>,
    ) -> Result<EdgePolicy<B>, E> {
        let Self {
            server,
            listen,
            path,
            incoming,
            allowed_origins,
            allowed_hosts,
            passthrough_headers,
            trusted_proxies,
            scrape_key,
            answers,
            freezes_tools,
            virtual_tools,
            limits,
        } = self;
        let incoming = match incoming {
            IncomingAuth::Anonymous => IncomingAuth::Anonymous,
            IncomingAuth::Local(identity) => IncomingAuth::Local(identity),
            IncomingAuth::Bearer(settings) => IncomingAuth::Bearer(start(settings)?),
        };
        Ok(EdgePolicy {
            server,
            listen,
            path,
            incoming,
            allowed_origins,
            allowed_hosts,
            passthrough_headers,
            trusted_proxies,
            scrape_key,
            answers,
            freezes_tools,
            virtual_tools,
            limits,
        })
    }
}

/// The name and version that the gateway reports to clients.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// The configured name.
    pub name: String,
    /// The version of the gateway.
    pub version: String,
}

/// How callers are identified. `A` is an authenticator, or the settings from which it is started.
#[derive(Clone, Debug)]
pub enum IncomingAuth<A = Arc<dyn Authenticator>> {
    /// All callers are anonymous.
    Anonymous,
    /// All callers are the operating-system user who runs the gateway.
    Local(Arc<Identity>),
    /// The bearer credential of each request identifies the caller. Only for HTTP, because stdio has no
    /// headers.
    Bearer(A),
}

/// The limits on what clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// The largest request body, in bytes. The default is 8 MiB. Also the longest line over stdio.
    pub body_bytes_max: usize,
    /// The largest request head, in bytes. The default is 64 KiB, the minimum 8 KiB.
    pub head_bytes_max: usize,
    /// The time-out for receiving a request head. The default is 10 seconds.
    pub head_timeout: Duration,
    /// The time-out for receiving a request body. The default is 30 seconds.
    pub body_timeout: Duration,
    /// The maximum number of items on one list page. The default is 1000.
    pub page_items_max: usize,
    /// The maximum number of open sessions. The default is 100 000.
    pub session_count_max: usize,
    /// The time after which an idle session ends. The default is 30 minutes.
    pub session_idle_max: Duration,
    /// The maximum number of open sessions of one caller. The default is 1000.
    pub sessions_per_caller_max: usize,
    /// The maximum number of in-flight requests of all clients. The default is 10 000.
    pub request_count_max: usize,
    /// The maximum number of in-flight requests of one caller. The default is 1000.
    pub requests_per_caller_max: usize,
    /// The maximum number of connections of one client address. The default is 4096. Peers in
    /// `trusted_proxies` are exempt.
    pub connections_per_address_max: usize,
    /// The maximum size of large answers that clients have not read yet, in bytes, over all clients. The
    /// default is 1 GiB.
    pub answer_bytes_max: usize,
    /// The maximum size of large answers that one caller has not read yet, in bytes. The default is 256 MiB.
    pub answer_bytes_per_caller_max: usize,
    /// How long a write to a client may make no progress. The default is 60 seconds.
    pub write_stall_max: Duration,
    /// How long a stream may be silent before a keep-alive comment is sent. The default is 30 seconds.
    pub keep_alive: Duration,
    /// The longest duration of shutdown, from the first signal to the end of the last backend. The default is
    /// 10 seconds.
    pub shutdown_grace: Duration,
}

impl EdgeLimits {
    /// The part of the shutdown grace in which in-flight calls may finish: three quarters. The rest is for
    /// stopping the backends.
    #[must_use]
    pub fn calls_grace(&self) -> Duration {
        self.shutdown_grace * 3 / 4
    }

    /// The default limits. They are those of the reference implementation where it has them.
    pub const DEFAULT: Self = Self {
        body_bytes_max: 8 << 20,
        head_bytes_max: 64 << 10,
        head_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(30),
        page_items_max: 1000,
        session_count_max: 100_000,
        sessions_per_caller_max: 1_000,
        session_idle_max: Duration::from_secs(30 * 60),
        request_count_max: 10_000,
        requests_per_caller_max: 1_000,
        connections_per_address_max: 4_096,
        answer_bytes_max: 1 << 30,
        answer_bytes_per_caller_max: 256 << 20,
        write_stall_max: Duration::from_secs(60),
        keep_alive: Duration::from_secs(30),
        shutdown_grace: Duration::from_secs(10),
    };
}
