//! The `spec` of each Kubernetes object of ToolHive (`toolhive.stacklok.dev`, v1beta1) that says what a virtual MCP
//! server does. What objects say about their pods is left to the cluster.

mod auth;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::file::{CompositeTool, File, NameRef, ToolOverride};

pub(super) use auth::*;

/// `VirtualMCPServer`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct VirtualMcpServer {
    pub(super) incoming_auth: IncomingAuth,
    pub(super) outgoing_auth: Option<OutgoingAuth>,
    #[serde(default)]
    pub(super) passthrough_headers: Vec<String>,
    pub(super) group_ref: NameRef,
    /// The configuration, as a file has it.
    #[schemars(with = "Option<File>")]
    pub(super) config: Option<Map<String, Value>>,
    pub(super) telemetry_config_ref: Option<TelemetryRef>,
    pub(super) embedding_server_ref: Option<NameRef>,
    pub(super) auth_server_config: Option<Map<String, Value>>,
    pub(super) session_storage: Option<SessionStorage>,
    pub(super) service_type: Option<Value>,
    pub(super) session_affinity: Option<Value>,
    pub(super) service_account: Option<Value>,
    pub(super) pod_template_spec: Option<Value>,
    pub(super) replicas: Option<Value>,
    pub(super) image_pull_secrets: Option<Value>,
}

/// A key of a `ConfigMap` or a `Secret`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct KeyRef {
    pub(super) name: String,
    pub(super) key: Option<String>,
    /// Kubernetes knows it; what must be there, must be there.
    #[serde(rename = "optional")]
    pub(super) _optional: Option<bool>,
}

/// Authorities in a `ConfigMap`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CaBundleRef {
    pub(super) config_map_ref: Option<KeyRef>,
}

/// `MCPServer` and `MCPRemoteProxy`, as far as a gateway in front of them is concerned: the operator goes on running
/// them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workload {
    pub(super) transport: Option<String>,
    pub(super) proxy_mode: Option<String>,
    pub(super) proxy_port: Option<u16>,
    pub(super) group_ref: Option<NameRef>,
    pub(super) external_auth_config_ref: Option<NameRef>,
}

/// `MCPServerEntry`: a server that nobody here runs.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerEntry {
    pub(super) remote_url: String,
    /// The gateway connects to any address that its configuration names.
    #[serde(rename = "allowPrivateEndpoint")]
    pub(super) _allow_private_endpoint: Option<bool>,
    pub(super) transport: String,
    pub(super) group_ref: Option<NameRef>,
    pub(super) external_auth_config_ref: Option<NameRef>,
    pub(super) header_forward: Option<HeaderForward>,
    pub(super) ca_bundle_ref: Option<CaBundleRef>,
}

/// Headers sent with every request.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeaderForward {
    #[serde(default)]
    pub(super) add_plaintext_headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) add_headers_from_secret: Vec<SecretHeader>,
}

/// A header whose value is in a `Secret`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretHeader {
    pub(super) header_name: String,
    pub(super) value_secret_ref: KeyRef,
}

/// `MCPToolConfig`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig {
    #[serde(default)]
    pub(super) tools_filter: Vec<String>,
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ToolOverride>")]
    pub(super) tools_override: Map<String, Value>,
}

/// `EmbeddingServer`, as far as its clients are concerned.
#[derive(Deserialize, JsonSchema)]
pub(super) struct EmbeddingServer {
    pub(super) port: Option<u16>,
}

/// A reference to an `MCPTelemetryConfig`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TelemetryRef {
    pub(super) name: String,
    pub(super) service_name: Option<String>,
}

/// `MCPTelemetryConfig`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TelemetryConfig {
    pub(super) open_telemetry: Option<OpenTelemetry>,
    pub(super) prometheus: Option<Switch>,
}

/// Traces and metrics sent to a collector.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenTelemetry {
    pub(super) enabled: Option<bool>,
    pub(super) endpoint: Option<String>,
    pub(super) insecure: Option<bool>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) sensitive_headers: Vec<SensitiveHeader>,
    #[serde(default)]
    pub(super) resource_attributes: BTreeMap<String, String>,
    pub(super) metrics: Option<Switch>,
    pub(super) tracing: Option<Tracing>,
    pub(super) use_legacy_attributes: Option<bool>,
    pub(super) ca_bundle_ref: Option<CaBundleRef>,
}

/// A header of the collector whose value is in a `Secret`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SensitiveHeader {
    pub(super) name: String,
    pub(super) secret_key_ref: KeyRef,
}

/// Something that is on or off.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Switch {
    pub(super) enabled: Option<bool>,
}

/// Which share of requests is traced.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tracing {
    pub(super) enabled: Option<bool>,
    pub(super) sampling_rate: Option<String>,
}

/// Where sessions are kept.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionStorage {
    pub(super) provider: String,
    pub(super) address: Option<String>,
    pub(super) db: Option<u32>,
    pub(super) key_prefix: Option<String>,
    pub(super) password_ref: Option<KeyRef>,
}

/// `VirtualMCPCompositeToolDefinition`: a tool as `compositeTools` has it.
#[derive(Deserialize, JsonSchema)]
pub(super) struct CompositeToolDefinition(#[schemars(with = "CompositeTool")] pub(super) Map<String, Value>);
