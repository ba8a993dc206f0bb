//! The sections of the file that single features own: composite tools, optimizer, code mode, rate limits,
//! telemetry, audit and session storage.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{GoDuration, ToolAnnotations};

/// An operator-written workflow, offered as one tool.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CompositeTool {
    /// The tool's name, unique here.
    pub(crate) name: String,
    /// The tool's description.
    pub(crate) description: Option<String>,
    /// A JSON Schema of its arguments; the type must be `object`.
    pub(crate) parameters: Option<Map<String, Value>>,
    /// How long the whole workflow may take. Left out: 30m.
    pub(crate) timeout: Option<GoDuration>,
    /// What is done, in the order `dependsOn` allows.
    pub(crate) steps: Vec<WorkflowStep>,
    /// What the tool answers.
    pub(crate) output: Option<WorkflowOutput>,
    /// Claims about the tool's behaviour.
    pub(crate) annotations: Option<ToolAnnotations>,
}

/// One step of a workflow.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkflowStep {
    /// The step's id, unique within the workflow.
    pub(crate) id: String,
    /// `tool`, `elicitation` or `forEach`. Left out: `tool` where a tool is named.
    #[serde(rename = "type")]
    pub(crate) kind: Option<StepKind>,
    /// The tool called, as `workload.tool` or by its advertised name.
    pub(crate) tool: Option<String>,
    /// Arguments; texts may be templates.
    pub(crate) arguments: Option<Map<String, Value>>,
    /// A template; the step is skipped unless it yields `true`.
    pub(crate) condition: Option<String>,
    /// Ids of the steps that must have ended before.
    #[serde(default)]
    pub(crate) depends_on: Vec<String>,
    /// What happens when the step fails.
    pub(crate) on_error: Option<StepErrorHandling>,
    /// What the user is asked (elicitation).
    pub(crate) message: Option<String>,
    /// A JSON Schema of the user's answer (elicitation).
    pub(crate) schema: Option<Map<String, Value>>,
    /// How long the step may take.
    pub(crate) timeout: Option<GoDuration>,
    /// What happens when the user declines (elicitation).
    pub(crate) on_decline: Option<ElicitationResponse>,
    /// What happens when the user cancels (elicitation).
    pub(crate) on_cancel: Option<ElicitationResponse>,
    /// Results used when the step is skipped or fails and the workflow goes on.
    pub(crate) default_results: Option<Map<String, Value>>,
    /// A template that yields the list to go through (forEach).
    pub(crate) collection: Option<String>,
    /// The name of the current item in templates (forEach).
    pub(crate) item_var: Option<String>,
    /// How many items are worked on at once, 0 to 50 (forEach).
    pub(crate) max_parallel: Option<u32>,
    /// How many items there may be, 0 to 1000 (forEach).
    pub(crate) max_iterations: Option<u32>,
    /// What is done for each item (forEach).
    pub(crate) step: Option<Box<WorkflowStep>>,
}

/// What a step does.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StepKind {
    Tool,
    Elicitation,
    ForEach,
}

/// What happens when a step fails.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StepErrorHandling {
    /// `abort`, `continue` or `retry`. Left out: `abort`.
    pub(crate) action: Option<String>,
    /// How often it is tried again, for `retry`.
    pub(crate) retry_count: Option<u32>,
    /// How long to wait before it is tried again.
    pub(crate) retry_delay: Option<GoDuration>,
}

/// What happens when the user does not accept.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ElicitationResponse {
    /// `skip_remaining`, `abort` or `continue`. Left out: `abort`.
    pub(crate) action: Option<String>,
}

/// What a workflow answers.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkflowOutput {
    /// The answer's properties, by name.
    pub(crate) properties: BTreeMap<String, OutputProperty>,
    /// Those that must be there.
    #[serde(default)]
    pub(crate) required: Vec<String>,
}

/// One property of a workflow's answer.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutputProperty {
    /// `string`, `integer`, `number`, `boolean`, `object` or `array`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Its description.
    pub(crate) description: Option<String>,
    /// A template that yields it. Not together with `properties`.
    pub(crate) value: Option<String>,
    /// The properties of an object.
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, OutputProperty>,
    /// Used when the template yields nothing.
    pub(crate) default: Option<Value>,
}

/// Two tools, find and call, in place of the whole list.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Optimizer {
    /// The URL of an embedding service. Left out: the model within the binary.
    pub(crate) embedding_service: Option<String>,
    /// How long one request to the service may take. Left out: 30s.
    pub(crate) embedding_service_timeout: Option<GoDuration>,
    /// Who turns texts into vectors: `tei` or `openai`, which need `embeddingService`; `builtin`, the model within the
    /// binary; `static`, smaller and faster vectors within the binary; `none`, search by words only. Left out: `tei`
    /// with `embeddingService`, else `builtin`.
    pub(crate) embedding_provider: Option<EmbeddingProvider>,
    /// The model's name. Needed by `openai`.
    pub(crate) embedding_model: Option<String>,
    /// Headers sent to the embedding service, at most 32; `openai` only.
    #[serde(default)]
    pub(crate) embedding_headers: BTreeMap<String, String>,
    /// The folder where vectors are kept from one start to the next; `""` keeps none. Left out: `vmcp/embeddings` in the
    /// user's cache folder.
    pub(crate) embedding_cache: Option<String>,
    /// How many tools one search returns, 1 to 50. Left out: 8.
    pub(crate) max_tools_to_return: Option<u32>,
    /// How much meaning counts against words, "0.0" to "1.0". Left out: "0.5", with static vectors "0.3".
    pub(crate) hybrid_search_semantic_ratio: Option<String>,
    /// How far in meaning a tool may lie that has no word in common, "0.0" to "2.0". Left out: "1.0".
    pub(crate) semantic_distance_threshold: Option<String>,
    /// Tools that stay listed beside the two, by the names clients see.
    #[serde(default)]
    pub(crate) pinned_tools: Vec<String>,
    /// What clients read about `find_tool`. Left out: the built-in text.
    pub(crate) find_tool_description: Option<String>,
    /// Whether that text ends with a line about each server. Left out: yes.
    pub(crate) server_summary: Option<bool>,
    /// How much of a tool's definition a search returns: `full`, or `compact` for name, description and what a call needs
    /// of the input schema. Left out: `full`.
    pub(crate) return_schemas: Option<ReturnSchemas>,
}

/// Who turns texts into vectors.
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

/// One tool that runs a script over the others.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CodeMode {
    /// Turns it on. Left out: off.
    pub(crate) enabled: Option<bool>,
    /// How many steps a script may take. Left out: 100000.
    pub(crate) step_limit: Option<u64>,
    /// How many calls a script may make at once. Left out: 10.
    pub(crate) parallel_max_concurrency: Option<u32>,
    /// How long each of its calls may take. Left out: 30s.
    pub(crate) tool_call_timeout: Option<GoDuration>,
}

/// Where sessions are kept.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SessionStorage {
    /// `memory` or `redis`.
    pub(crate) provider: StorageProvider,
    /// The Redis server, `host:port`.
    pub(crate) address: Option<String>,
    /// The number of the Redis database.
    pub(crate) db: Option<u32>,
    /// What every key begins with; ends with a colon.
    pub(crate) key_prefix: Option<String>,
}

/// Who keeps sessions.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StorageProvider {
    Memory,
    Redis,
}

/// Traces and metrics.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// The OTLP collector.
    pub(crate) endpoint: Option<String>,
    /// The service's name.
    pub(crate) service_name: Option<String>,
    /// The service's version.
    pub(crate) service_version: Option<String>,
    /// Sends traces.
    pub(crate) tracing_enabled: Option<bool>,
    /// Sends metrics.
    pub(crate) metrics_enabled: Option<bool>,
    /// The share of requests that are traced, as text. Left out: "0.05".
    pub(crate) sampling_rate: Option<String>,
    /// Headers sent to the collector.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Speaks to the collector without TLS.
    pub(crate) insecure: Option<bool>,
    /// Offers metrics to Prometheus under `/metrics`.
    pub(crate) enable_prometheus_metrics_path: Option<bool>,
    /// The port of `/metrics`.
    pub(crate) prometheus_port: Option<u16>,
    /// Offers `/metrics` on the port of MCP as well. Left out: true.
    pub(crate) metrics_on_transport_port: Option<bool>,
    /// Names of variables recorded with every span.
    #[serde(default)]
    pub(crate) environment_variables: Vec<String>,
    /// Attributes recorded with every span.
    #[serde(default)]
    pub(crate) custom_attributes: BTreeMap<String, String>,
    /// Records attributes under their older names too. Left out: true.
    pub(crate) use_legacy_attributes: Option<bool>,
    /// A PEM file of authorities trusted for the collector.
    pub(crate) ca_cert_path: Option<String>,
}

/// A record of who did what.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Audit {
    /// `false` turns it off. Left out: on, since the section is there.
    pub(crate) enabled: Option<bool>,
    /// The component's name in events. Left out: vmcp-server.
    pub(crate) component: Option<String>,
    /// Kinds of events recorded. Left out: all.
    #[serde(default)]
    pub(crate) event_types: Vec<String>,
    /// Kinds of events left out, also of those in `eventTypes`.
    #[serde(default)]
    pub(crate) exclude_event_types: Vec<String>,
    /// Records what was sent. Left out: no.
    pub(crate) include_request_data: Option<bool>,
    /// Records what was answered. Left out: no.
    pub(crate) include_response_data: Option<bool>,
    /// Recognises errors inside answers. Left out: yes.
    pub(crate) detect_application_errors: Option<bool>,
    /// The most bytes of data recorded, of what was sent and of what was answered each; at most 1048576. Left out: 1024.
    pub(crate) max_data_size: Option<u64>,
    /// How many links of a delegation chain (RFC 8693) are recorded. Left out: 10.
    pub(crate) max_delegation_depth: Option<u32>,
    /// The file written to, one JSON object a line. Left out: standard output.
    pub(crate) log_file: Option<String>,
}
