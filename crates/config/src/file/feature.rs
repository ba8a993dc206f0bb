//! The sections of the config file that belong to single features: optimizer, session storage, telemetry and audit. Rate limits are in `limits`, and scripts in `code_mode`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;

/// The optimizer: clients see the two tools `find_tool` and `call_tool` instead of the list of all tools.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Optimizer {
    /// The URL of an embedding service. Required by `tei` and `openai`; refused with the other providers.
    /// Left out: no service, and the model in the binary is used.
    pub(crate) embedding_service: Option<String>,
    /// The time-out of one request to the embedding service, longer than zero and at most 10m. Left out: 30s.
    pub(crate) embedding_service_timeout: Option<GoDuration>,
    /// The source of embedding vectors. `tei` and `openai`: a service at `embeddingService`; `builtin`: the
    /// model in the binary; `static`: smaller and faster vectors in the binary; `none`: search by words only.
    /// Left out: `tei` with `embeddingService`, else `builtin`.
    pub(crate) embedding_provider: Option<EmbeddingProvider>,
    /// The name of the model at the embedding service. Required by `openai`; without effect, with a warning,
    /// otherwise.
    pub(crate) embedding_model: Option<String>,
    /// Headers for the embedding service, at most 32. Only for `openai`. Left out: none.
    #[serde(default)]
    pub(crate) embedding_headers: BTreeMap<String, String>,
    /// The folder that keeps embedding vectors over a restart; a reference that expands to an empty text
    /// keeps none, and a literal `""` counts as left out. A path that begins with `~` is refused; write
    /// `${HOME}`. Left out: `vmcp/embeddings` in `$XDG_CACHE_HOME` or `~/.cache`.
    pub(crate) embedding_cache: Option<String>,
    /// The largest number of tools that one search returns, 1 to 50. Left out: 8.
    pub(crate) max_tools_to_return: Option<u32>,
    /// The weight of meaning against words in the ranking, "0.0" to "1.0". Left out: "0.5", with `static`
    /// "0.3".
    pub(crate) hybrid_search_semantic_ratio: Option<String>,
    /// The largest distance in meaning of a tool that has no word in common with the search, "0.0" to "2.0".
    /// Left out: "1.0".
    pub(crate) semantic_distance_threshold: Option<String>,
    /// The tools that stay listed next to `find_tool` and `call_tool`, by the names that clients see. An
    /// empty name, or one that occurs twice, is refused. Left out: none.
    #[serde(default)]
    pub(crate) pinned_tools: Vec<String>,
    /// The name of the tool that searches, which clients see. Letters, digits, `_`, `-` and `.`, at most 64. Left
    /// out: `find_tool`.
    pub(crate) find_tool_name: Option<String>,
    /// The name of the tool that calls, as `findToolName`, and another name than that. Left out: `call_tool`.
    pub(crate) call_tool_name: Option<String>,
    /// The description of `find_tool` that clients see. A text of spaces only is refused. Left out: a
    /// built-in text.
    pub(crate) find_tool_description: Option<String>,
    /// Whether the description of `find_tool` ends with a line about each server. Left out: true.
    pub(crate) server_summary: Option<bool>,
    /// How much of a tool's definition a search returns: `full`, or `compact` for the name, the description,
    /// and what a call needs of the input schema. Left out: `full`.
    pub(crate) return_schemas: Option<ReturnSchemas>,
}

/// The source of embedding vectors.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EmbeddingProvider {
    Tei,
    Openai,
    Builtin,
    Static,
    None,
}

/// How much of a tool's definition a search returns.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReturnSchemas {
    Full,
    Compact,
}

/// The store for sessions. Sessions always stay in the memory of this process; a Redis server is used for
/// `rateLimiting` only.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SessionStorage {
    /// `memory` or `redis`. With `redis`, rate limits are kept in the Redis server at `address`, unless
    /// `rateLimiting.store` says otherwise.
    pub(crate) provider: StorageProvider,
    /// The address of the Redis server, `host:port`. Without effect, with a warning, with `provider: memory`.
    pub(crate) address: Option<String>,
    /// The number of the Redis database. Left out: 0.
    pub(crate) db: Option<u32>,
    /// The prefix of session keys. It has no effect, with a warning; `rateLimiting.redis.keyPrefix` is the
    /// prefix of the limiter's keys.
    pub(crate) key_prefix: Option<String>,
}

/// The store for sessions.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StorageProvider {
    Memory,
    Redis,
}

/// Traces and metrics. Traces and the export to an OTLP collector are not in this build: a section that turns
/// them on is refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// The address of the OTLP collector. With it, traces and metrics are on unless `tracingEnabled` and
    /// `metricsEnabled` are false, and the section is refused.
    pub(crate) endpoint: Option<String>,
    /// The service name in traces. It has no effect, with a warning.
    pub(crate) service_name: Option<String>,
    /// The service version in traces. It has no effect, with a warning.
    pub(crate) service_version: Option<String>,
    /// Exports traces; `true` is refused. Left out: true with `endpoint`, else false.
    pub(crate) tracing_enabled: Option<bool>,
    /// Exports metrics to the collector; `true` is refused together with `endpoint`. Left out: true with
    /// `endpoint`; without it, metrics are on `/metrics` only.
    pub(crate) metrics_enabled: Option<bool>,
    /// The share of requests that are traced, as a text from "0.0" to "1.0". It has no effect, with a
    /// warning. Left out: "0.05".
    pub(crate) sampling_rate: Option<String>,
    /// Headers for the collector. They have no effect.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Connects to the collector without TLS. It has no effect.
    pub(crate) insecure: Option<bool>,
    /// Lets any client read `/metrics` on the client listener, unless `metricsOnTransportPort` is false.
    /// Left out: false, and a credential is required there.
    pub(crate) enable_prometheus_metrics_path: Option<bool>,
    /// The port of `/metrics` in ToolHive. It has no effect, with a warning: `/metrics` is on the client
    /// listener and on `admin.listen`.
    pub(crate) prometheus_port: Option<u16>,
    /// Whether `enablePrometheusMetricsPath` opens `/metrics` on the client listener. Left out: true.
    pub(crate) metrics_on_transport_port: Option<bool>,
    /// Names of environment variables that are recorded in traces. They have no effect, with a warning.
    #[serde(default)]
    pub(crate) environment_variables: Vec<String>,
    /// Attributes that are recorded in traces. They have no effect, with a warning.
    #[serde(default)]
    pub(crate) custom_attributes: BTreeMap<String, String>,
    /// Records attributes under their older names as well. It has no effect. Left out: true.
    pub(crate) use_legacy_attributes: Option<bool>,
    /// A PEM file with certificate authorities of the collector. It has no effect.
    pub(crate) ca_cert_path: Option<String>,
}

/// Audit records: one JSON object for each request, with caller, tool and outcome.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Audit {
    /// `false` turns audit records off, unless the flag `--enable-audit` is set. Left out: true, if the
    /// section is written.
    pub(crate) enabled: Option<bool>,
    /// The name of this gateway in audit records. Left out: `vmcp-server`.
    pub(crate) component: Option<String>,
    /// The types of records that are written. An unknown type causes a warning, and a list without a known
    /// type is refused. Left out: all types.
    #[serde(default)]
    pub(crate) event_types: Vec<String>,
    /// The types of records that are not written, even if `eventTypes` lists them. An unknown type causes a
    /// warning. Left out: none.
    #[serde(default)]
    pub(crate) exclude_event_types: Vec<String>,
    /// Records the arguments of calls, prompts and completions. They may contain secrets. Left out: false.
    pub(crate) include_request_data: Option<bool>,
    /// Records the results of requests. They may contain secrets. Left out: false.
    pub(crate) include_response_data: Option<bool>,
    /// Records failed tool results and JSON-RPC errors of backends with the outcome `application_error`
    /// instead of `success`. Left out: true.
    pub(crate) detect_application_errors: Option<bool>,
    /// The largest number of bytes recorded of the request data, and of the response data; at most 1048576.
    /// Left out: 1024.
    pub(crate) max_data_size: Option<u64>,
    /// The largest number of links of a delegation chain (`act` claims, RFC 8693) that are recorded.
    /// Left out: 10.
    pub(crate) max_delegation_depth: Option<u32>,
    /// The file that records are appended to, one JSON object on each line. A text of spaces only is refused.
    /// Left out: standard output.
    pub(crate) log_file: Option<String>,
}
