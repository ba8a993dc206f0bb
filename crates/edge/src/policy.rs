//! The validated settings of the client edge. Built by `vmcp` from the command line and the config file.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use vmcp_domain::{Authenticator, Identity, Secret};
use vmcp_wire::fault::LimitAnswer;

/// Everything the client edge needs to know.
#[derive(Clone, Debug)]
pub struct EdgePolicy {
    /// The name and version the gateway introduces itself with.
    pub server: ServerInfo,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The path of the MCP endpoint, with its leading slash.
    pub path: String,
    /// Who callers are.
    pub incoming: IncomingAuth,
    /// Origins that browsers may call from, besides loopback ones on a loopback listener. `*` allows any.
    pub allowed_origins: Vec<String>,
    /// Host names the listener answers to, besides loopback ones. Empty on a non-loopback listener: any.
    pub allowed_hosts: Vec<String>,
    /// Client request headers that are passed to backends, in lower case.
    pub passthrough_headers: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The key by which collectors of metrics may read pages of the client listener.
    pub scrape_key: Option<Secret>,
    /// How a limited call is answered.
    pub limit_answer: LimitAnswer,
    /// The bounds of what a client may take.
    pub limits: EdgeLimits,
}

/// How the gateway introduces itself.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Its configured name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Who callers are.
#[derive(Clone)]
pub enum IncomingAuth {
    /// Nobody in particular.
    Anonymous,
    /// The operating-system user who runs the gateway.
    Local(Arc<Identity>),
    /// Whoever the bearer credential of each request says. Over HTTP only: standard streams have no headers.
    Bearer(Arc<dyn Authenticator>),
}

impl fmt::Debug for IncomingAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Local(identity) => f.debug_tuple("Local").field(identity).finish(),
            Self::Bearer(authenticator) => f.debug_tuple("Bearer").field(authenticator.challenge()).finish(),
        }
    }
}

/// The bounds of what a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The largest request head, in bytes.
    pub head_bytes_max: usize,
    /// How long a client may take to send a request head.
    pub head_timeout: Duration,
    /// How long a client may take to send a request body.
    pub body_timeout: Duration,
    /// How many items stand on one page of a list.
    pub page_items_max: usize,
    /// How many sessions there may be at once.
    pub session_count_max: usize,
    /// How long a session may lie idle.
    pub session_idle_max: Duration,
    /// How many of them one caller may have.
    pub sessions_per_caller_max: usize,
    /// How many requests may be in work at once, over all clients.
    pub request_count_max: usize,
    /// How many of them may be of one caller.
    pub requests_per_caller_max: usize,
    /// How many connections one address may have. Peers in `trusted_proxies` may have any number.
    pub connections_per_address_max: usize,
    /// The most bytes of large answers that wait for their clients to read them, over all clients.
    pub answer_bytes_max: usize,
    /// The same for one caller.
    pub answer_bytes_per_caller_max: usize,
    /// How long a client may take nothing of what is sent to it.
    pub write_stall_max: Duration,
    /// How long an idle stream may be silent before a comment is sent to keep it open.
    pub keep_alive: Duration,
    /// How long shutdown takes at most, from the first signal to the end of the last backend.
    pub shutdown_grace: Duration,
}

impl EdgeLimits {
    /// How much of the shutdown's time is for calls to finish. The rest is for the backends.
    #[must_use]
    pub fn calls_grace(&self) -> Duration {
        self.shutdown_grace * 3 / 4
    }

    /// The reference's bounds where it has them.
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
