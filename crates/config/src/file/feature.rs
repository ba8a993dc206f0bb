//! The sections of the config file that belong to single features: composite tools, optimizer, code mode,
//! session storage, telemetry and audit. Rate limits are in `limits`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{GoDuration, ToolAnnotations};

/// A workflow written by the operator, offered as one tool. Not in this build: composite tools are refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CompositeTool {
    /// The name of the tool, unique in this list.
    pub(crate) name: String,
    /// The description of the tool.
    pub(crate) description: Option<String>,
    /// The JSON Schema of the arguments; its type must be `object`.
    pub(crate) parameters: Option<Map<String, Value>>,
    /// The time-out of the whole workflow. Left out: 30m.
    pub(crate) timeout: Option<GoDuration>,
    /// The steps of the workflow, in an order that `dependsOn` allows.
    pub(crate) steps: Vec<WorkflowStep>,
    /// The result of the tool.
    pub(crate) output: Option<WorkflowOutput>,
    /// Annotations of the tool: hints about its behaviour.
    pub(crate) annotations: Option<ToolAnnotations>,
}

/// One step of a workflow.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkflowStep {
    /// The id of the step, unique in the workflow.
    pub(crate) id: String,
    /// What the step does: `tool`, `elicitation` or `forEach`. Left out: `tool`, if `tool` is written.
    #[serde(rename = "type")]
    pub(crate) kind: Option<StepKind>,
    /// The tool that is called, as `workload.tool` or by its advertised name.
    pub(crate) tool: Option<String>,
    /// The arguments of the call. Texts may be templates.
    pub(crate) arguments: Option<Map<String, Value>>,
    /// A template. The step is skipped unless it yields `true`.
    pub(crate) condition: Option<String>,
    /// The ids of the steps that must end before this one starts.
    #[serde(default)]
    pub(crate) depends_on: Vec<String>,
    /// What happens if the step fails.
    pub(crate) on_error: Option<StepErrorHandling>,
    /// The text that is shown to the user (`elicitation`).
    pub(crate) message: Option<String>,
    /// The JSON Schema of the user's answer (`elicitation`).
    pub(crate) schema: Option<Map<String, Value>>,
    /// The time-out of the step.
    pub(crate) timeout: Option<GoDuration>,
    /// What happens if the user declines (`elicitation`).
    pub(crate) on_decline: Option<ElicitationResponse>,
    /// What happens if the user cancels (`elicitation`).
    pub(crate) on_cancel: Option<ElicitationResponse>,
    /// The results to use if the step is skipped, or if it fails and the workflow continues.
    pub(crate) default_results: Option<Map<String, Value>>,
    /// A template that yields the list of items (`forEach`).
    pub(crate) collection: Option<String>,
    /// The name of the current item in templates (`forEach`).
    pub(crate) item_var: Option<String>,
    /// How many items are processed at the same time, 0 to 50 (`forEach`).
    pub(crate) max_parallel: Option<u32>,
    /// The largest number of items, 0 to 1000 (`forEach`).
    pub(crate) max_iterations: Option<u32>,
    /// The step that is run for each item (`forEach`).
    pub(crate) step: Option<Box<WorkflowStep>>,
}

/// What a step does: call a tool, ask the user, or run a step for each item of a list.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StepKind {
    Tool,
    Elicitation,
    ForEach,
}

/// What happens if a step fails.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StepErrorHandling {
    /// `abort`, `continue` or `retry`. Left out: `abort`.
    pub(crate) action: Option<String>,
    /// How many times the step is retried, with `retry`.
    pub(crate) retry_count: Option<u32>,
    /// How long to wait before each retry.
    pub(crate) retry_delay: Option<GoDuration>,
}

/// What happens if the user does not accept.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ElicitationResponse {
    /// `skip_remaining`, `abort` or `continue`. Left out: `abort`.
    pub(crate) action: Option<String>,
}

/// The result of a workflow.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkflowOutput {
    /// The properties of the result, by name.
    pub(crate) properties: BTreeMap<String, OutputProperty>,
    /// The names of the properties that are required.
    #[serde(default)]
    pub(crate) required: Vec<String>,
}

/// One property of the result of a workflow.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutputProperty {
    /// The JSON type: `string`, `integer`, `number`, `boolean`, `object` or `array`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The description of the property.
    pub(crate) description: Option<String>,
    /// A template that yields the value. Not together with `properties`.
    pub(crate) value: Option<String>,
    /// The properties of an `object`.
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, OutputProperty>,
    /// The value to use if the template yields nothing.
    pub(crate) default: Option<Value>,
}

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

/// Code mode: one tool that runs a script which calls other tools. Not in this build.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CodeMode {
    /// Turns code mode on; `true` is refused in this build. Left out: false.
    pub(crate) enabled: Option<bool>,
    /// The largest number of steps of a script. Left out: 100000.
    pub(crate) step_limit: Option<u64>,
    /// The largest number of calls that a script may have in flight. Left out: 10.
    pub(crate) parallel_max_concurrency: Option<u32>,
    /// The time-out of each call that a script makes. Left out: 30s.
    pub(crate) tool_call_timeout: Option<GoDuration>,
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
