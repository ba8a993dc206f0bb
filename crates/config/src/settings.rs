//! The validated settings of one gateway, made of the policies of the other crates. Settings that can be
//! built can be served.

mod isolation;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use vmcp_audit::AuditSettings;
use vmcp_authz::AuthzPolicy;
use vmcp_backends::policy::{BackendPolicy, Secret};
use vmcp_domain::{EXECUTE_TOOL_SCRIPT, VirtualNames};
use vmcp_edge::policy::EdgePolicy;
use vmcp_embedding_service::ServicePolicy;
use vmcp_federation::policy::{AggregationPolicy, HealthPolicy};
use vmcp_identity::BearerPolicy;
use vmcp_loopbreaker::LoopPolicy;
use vmcp_optimizer::policy::OptimizerPolicy;
use vmcp_ratelimit::OnStoreFailure;
use vmcp_ratelimit::policy::LimitPolicy;
use vmcp_ratelimit_redis::RedisPolicy;
use vmcp_script::ScriptPolicy;
use vmcp_workflow::{Workflow, WorkflowPolicy};

use super::report::Problem;

/// All settings of one gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name that clients see in the server information.
    pub name: String,
    /// The name of the group of the backends. It is a label for `/status` and the effective settings.
    pub group: Option<String>,
    /// How the lists of all backends become one list.
    pub aggregation: AggregationPolicy,
    /// The backends, in the order of the file.
    pub backends: Vec<BackendPolicy>,
    /// The largest number of processes of all stdio backends together.
    pub process_count_max: usize,
    /// The client edge: the listener, its bounds, and how callers are authenticated.
    pub edge: EdgePolicy<BearerPolicy>,
    /// The pages for operators.
    pub admin: AdminSettings,
    /// Health checks and the circuit breaker.
    pub health: HealthPolicy,
    /// The policies that say what callers may do; `None` lets every caller use everything.
    pub authz: Option<Arc<AuthzPolicy>>,
    /// Rate limits; `None` for no limits.
    pub limits: Option<LimitSettings>,
    /// When a call that keeps having the same outcome is not made again; `None` for never.
    pub loop_breaker: Option<LoopPolicy>,
    /// The tools `find_tool` and `call_tool` instead of the list; `None` lists every tool.
    pub optimizer: Option<OptimizerSettings>,
    /// The workflows that are offered as tools.
    pub workflows: WorkflowSettings,
    /// The tool that runs scripts; `None` for no such tool.
    pub scripts: Option<ScriptPolicy>,
    /// Audit records; `None` records nothing.
    pub audit: Option<AuditSettings>,
    /// The Kubernetes namespace of the gateway, or `local`. It is a label of metrics.
    pub namespace: String,
    /// The log level.
    pub log_level: LogLevel,
    /// Settings that have no effect, in the order of the file.
    pub warnings: Vec<Problem>,
    /// The file as it is written, without secrets.
    pub written: Value,
}

impl Settings {
    /// The names of the tools that no backend offers.
    #[must_use]
    pub fn virtual_tools(&self) -> Vec<String> {
        let optimizer = self.optimizer.as_ref().map_or_else(Vec::new, OptimizerSettings::virtual_tools);
        let workflows = self.workflows.workflows.iter().map(|workflow| workflow.name().to_owned());
        let scripts = self.scripts.as_ref().map(|_| EXECUTE_TOOL_SCRIPT.to_owned());
        optimizer.into_iter().chain(workflows).chain(scripts).collect()
    }

    /// The same settings for commands that do not search: search compares words only, so no embedding vectors
    /// are computed.
    pub fn without_embeddings(mut self) -> Self {
        if let Some(optimizer) = &mut self.optimizer {
            optimizer.source = EmbeddingSource::LexicalOnly;
        }
        self
    }
}

/// The admin listener, and what is readable without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address of the admin listener; `None` for no such listener.
    pub listen: Option<SocketAddr>,
    /// True if any client of the client listener may read `/metrics` there.
    pub is_metrics_public: bool,
    /// The folder for files that outlive the process; `None` if neither the file nor the environment names
    /// one.
    pub state_folder: Option<PathBuf>,
    /// True if the folder belongs to this gateway alone, because the file or a service manager names it. The
    /// default folder is shared by gateways of the same name.
    pub owns_state_folder: bool,
    /// The issuer of callers in commands without `--issuer`: that of tokens, `vmcp:api-key` if there are only
    /// API keys, else `local`.
    pub issuer: String,
}

/// The two virtual tools, and the source of embedding vectors for their search.
#[derive(Clone, Debug)]
pub struct OptimizerSettings {
    /// The virtual tools and the search.
    pub policy: OptimizerPolicy,
    /// The source of embedding vectors.
    pub source: EmbeddingSource,
    /// The folder that keeps embedding vectors; `None` keeps none.
    pub cache: Option<PathBuf>,
}

/// The workflows of the operator.
#[derive(Clone, Debug, Default)]
pub struct WorkflowSettings {
    /// The workflows, in the order of the file.
    pub workflows: Arc<[Workflow]>,
    /// How many may run at once.
    pub policy: WorkflowPolicy,
}

impl OptimizerSettings {
    /// The names of the virtual tools.
    #[must_use]
    pub fn virtual_tools(&self) -> Vec<String> {
        let VirtualNames { find, call } = self.policy.names.clone();
        vec![find, call]
    }
}

/// The source of embedding vectors.
#[derive(Clone, Debug)]
pub enum EmbeddingSource {
    /// No vectors: search compares words only.
    LexicalOnly,
    /// The model in the binary.
    Builtin,
    /// The static vectors in the binary.
    Static,
    /// An embedding service.
    Service(Box<ServicePolicy>),
}

/// Rate limits, and where they are counted.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// The limits.
    pub policy: LimitPolicy,
    /// The store that replicas share; `None` counts in this process.
    pub redis: Option<RedisSettings>,
    /// What happens while the shared store does not answer.
    pub on_failure: OnStoreFailure,
}

/// How the shared store is reached.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// The address of the server, cluster or sentinels.
    pub target: RedisTarget,
    /// The user of the access control list (ACL).
    pub username: Option<String>,
    /// The password of that user.
    pub password: Option<Secret>,
    /// A PEM file with certificate authorities that are trusted instead of those of the system.
    pub ca_bundle: Option<PathBuf>,
    /// The prefix of every key.
    pub key_prefix: String,
    /// The Kubernetes namespace, or `local`. It is part of every key.
    pub namespace: String,
    /// The time-out of one decision.
    pub deadline: Duration,
    /// The number of replicas; `None` if the operator does not say it, and replicas count each other.
    pub replica_count: Option<u32>,
    /// For how long the calls in flight of a replica count without news of that replica.
    pub slot_lease: Duration,
    /// The same settings as the store takes them; `None` only if there are problems.
    pub policy: Option<RedisPolicy>,
}

/// The address of the shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTarget {
    /// A single server.
    Single {
        /// The URL of the server.
        url: String,
    },
    /// A cluster.
    Cluster {
        /// The URLs of the nodes at which discovery starts.
        urls: Vec<String>,
    },
    /// A master that sentinels know.
    Sentinel {
        /// The URLs of the sentinels.
        urls: Vec<String>,
        /// The name of the master.
        master: String,
    },
}

/// The log level. Each level includes the levels before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures of the gateway itself.
    Error,
    /// Also failures that the gateway recovers from.
    Warn,
    /// Also events that an operator needs.
    Info,
    /// Also events that a developer needs.
    Debug,
}

impl LogLevel {
    /// The name of the level in the config and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Settings from the command line. They take precedence over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The address to listen on (`--host`).
    pub host: Option<String>,
    /// The port to listen on (`--port`); 0 takes any free port.
    pub port: Option<u16>,
    /// How long a session may be idle (`--session-ttl`); zero keeps the value of the file.
    pub session_ttl: Option<Duration>,
    /// Sets the log level to `debug`.
    pub debug: bool,
    /// Writes audit records, whatever the file says (`--enable-audit`).
    pub enable_audit: bool,
    /// The name of the operating-system user who runs the gateway, for `incomingAuth.type: local`.
    pub user: Option<String>,
}
