//! The validated settings of one gateway, made of the policies of the crates below. What can be built here
//! can be served.

mod isolation;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vmcp_authz::AuthzPolicy;
use vmcp_backends::policy::{BackendPolicy, Secret};
use vmcp_edge::policy::EdgePolicy;
use vmcp_embedding_service::ServicePolicy;
use vmcp_federation::policy::{AggregationPolicy, HealthPolicy};
use vmcp_optimizer::policy::OptimizerPolicy;
use vmcp_ratelimit::policy::LimitPolicy;
use vmcp_ratelimit::{LoopPolicy, OnStoreFailure};
use vmcp_ratelimit_redis::RedisPolicy;

use super::report::Problem;

/// Everything the gateway needs to know to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name it introduces itself with.
    pub name: String,
    /// The group its backends belong to: a label for `/status` and the effective settings.
    pub group: Option<String>,
    /// How many lists become one.
    pub aggregation: AggregationPolicy,
    /// The backends, in the order of the file.
    pub backends: Vec<BackendPolicy>,
    /// The most processes of all stdio backends together.
    pub process_count_max: usize,
    /// The client edge.
    pub edge: EdgePolicy,
    /// Pages for operators.
    pub admin: AdminSettings,
    /// Health checks and the circuit breaker.
    pub health: HealthPolicy,
    /// What callers may do; `None` lets everybody do everything.
    pub authz: Option<Arc<AuthzPolicy>>,
    /// How often tools may be called; `None` without limits.
    pub limits: Option<LimitSettings>,
    /// When the same call with the same outcome is not made again.
    pub loop_breaker: Option<LoopPolicy>,
    /// Two virtual tools in place of the list; `None` lists every tool.
    pub optimizer: Option<OptimizerSettings>,
    /// What is recorded about requests; `None` records nothing.
    pub audit: Option<AuditSettings>,
    /// The Kubernetes namespace it runs in, or `local`: a label of its metrics.
    pub namespace: String,
    /// How much is logged.
    pub log_level: LogLevel,
    /// What in the config has no effect, in the order of the file.
    pub warnings: Vec<Problem>,
}

impl Settings {
    /// The same for commands that do not search: they leave nothing to compute vectors for.
    pub fn without_embeddings(mut self) -> Self {
        if let Some(optimizer) = &mut self.optimizer {
            optimizer.source = EmbeddingSource::LexicalOnly;
        }
        self
    }
}

/// Where operators read pages, and what of them is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address of the admin listener; `None` for no such listener.
    pub listen: Option<SocketAddr>,
    /// Anyone who reaches the client listener may read `/metrics` there.
    pub is_metrics_public: bool,
    /// The folder of what outlives the process; `None` where neither the file nor the environment names one.
    pub state_folder: Option<PathBuf>,
    /// The folder is this gateway's own: the file, or a service manager, names it. Gateways of one name share the one that is
    /// used otherwise.
    pub owns_state_folder: bool,
    /// Who vouches for callers, unless a command says otherwise: the issuer of tokens, or of API keys where there are no others.
    pub issuer: String,
}

/// What is recorded about requests, and where.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// What records call this gateway.
    pub component: String,
    /// The kinds of records written; empty for all.
    pub event_types: Vec<String>,
    /// The kinds of records left out.
    pub excluded_event_types: Vec<String>,
    /// Records what was sent.
    pub request_data: bool,
    /// Records what was answered.
    pub response_data: bool,
    /// Looks for errors inside answers.
    pub detect_application_errors: bool,
    /// The most bytes of data recorded, for the request and for the answer each.
    pub data_bytes_max: usize,
    /// The most links recorded of a chain of delegation.
    pub delegation_depth_max: usize,
    /// The file written to; `None` writes to standard output.
    pub file: Option<PathBuf>,
}

/// The two virtual tools, and who turns texts into vectors for them.
#[derive(Clone, Debug)]
pub struct OptimizerSettings {
    /// The virtual tools and the search.
    pub policy: OptimizerPolicy,
    /// Who turns texts into vectors.
    pub source: EmbeddingSource,
    /// The folder where vectors are kept; `None` keeps none.
    pub cache: Option<PathBuf>,
}

/// Who turns texts into vectors.
#[derive(Clone, Debug)]
pub enum EmbeddingSource {
    /// Nobody: words alone are compared.
    LexicalOnly,
    /// The model within the binary.
    Builtin,
    /// The static vectors within the binary.
    Static,
    /// A service.
    Service(Box<ServicePolicy>),
}

/// How often tools may be called, and where that is counted.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// The limits.
    pub policy: LimitPolicy,
    /// The server that replicas share; `None` counts in this process.
    pub redis: Option<RedisSettings>,
    /// What happens while that server does not answer.
    pub on_failure: OnStoreFailure,
}

/// How the shared store is reached.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub target: RedisTarget,
    /// The user of an access control list.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A PEM file of authorities trusted in place of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// What every key begins with.
    pub key_prefix: String,
    /// The Kubernetes namespace, or `local`: part of every key.
    pub namespace: String,
    /// How long one decision may take.
    pub deadline: Duration,
    /// How many replicas there are, where the operator says so.
    pub replica_count: Option<u32>,
    /// For how long calls in flight count when nothing is heard of their replica any more.
    pub slot_lease: Duration,
    /// All of that as the store takes it; `None` only while problems are being collected.
    pub policy: Option<RedisPolicy>,
}

/// Where the shared store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTarget {
    /// One server.
    Single {
        /// Its URL.
        url: String,
    },
    /// A cluster.
    Cluster {
        /// Nodes to begin with.
        urls: Vec<String>,
    },
    /// A master that sentinels name.
    Sentinel {
        /// The sentinels.
        urls: Vec<String>,
        /// The master's name.
        master: String,
    },
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures of the gateway itself.
    Error,
    /// Also what went wrong and was survived.
    Warn,
    /// Also what an operator wants to know.
    Info,
    /// Also what a developer wants to know.
    Debug,
}

impl LogLevel {
    /// The level's name in config and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// What the command line sets; it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The address to listen on.
    pub host: Option<String>,
    /// The port to listen on; 0 takes any free one.
    pub port: Option<u16>,
    /// How long a session may lie idle; zero keeps the default.
    pub session_ttl: Option<Duration>,
    /// Logs at the level `debug`.
    pub debug: bool,
    /// Writes audit records, whatever the file says.
    pub enable_audit: bool,
    /// The name of the operating-system user who runs the gateway, for `incomingAuth.type: local`.
    pub user: Option<String>,
}
