//! The `spec` types of ToolHive's Kubernetes objects (`toolhive.stacklok.dev`, v1beta1) that say what a
//! virtual MCP server does. Keys about the pods of an object are left to the cluster.

mod auth;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::file::{CompositeTool, File, NameRef, ToolOverride};

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
    /// The configuration, in the format of a config file.
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

/// A reference to a key of a `ConfigMap` or a `Secret`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct KeyRef {
    pub(super) name: String,
    pub(super) key: Option<String>,
    /// A key of Kubernetes, which has no effect here: a missing object or key is always a problem.
    #[serde(rename = "optional")]
    pub(super) _optional: Option<bool>,
}

/// A reference to certificate authorities in a `ConfigMap`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CaBundleRef {
    pub(super) config_map_ref: Option<KeyRef>,
}

/// `MCPServer` and `MCPRemoteProxy`, with the keys that concern a gateway in front of them. ToolHive's
/// operator continues to run these servers.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workload {
    pub(super) transport: Option<String>,
    pub(super) proxy_mode: Option<String>,
    pub(super) proxy_port: Option<u16>,
    pub(super) group_ref: Option<NameRef>,
    pub(super) external_auth_config_ref: Option<NameRef>,
}

/// `MCPServerEntry`: a server that ToolHive does not run.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerEntry {
    pub(super) remote_url: String,
    /// Has no effect here: the gateway connects to any address that its config names.
    #[serde(rename = "allowPrivateEndpoint")]
    pub(super) _allow_private_endpoint: Option<bool>,
    pub(super) transport: String,
    pub(super) group_ref: Option<NameRef>,
    pub(super) external_auth_config_ref: Option<NameRef>,
    pub(super) header_forward: Option<HeaderForward>,
    pub(super) ca_bundle_ref: Option<CaBundleRef>,
}

/// Headers that are sent with every request to the server.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeaderForward {
    #[serde(default)]
    pub(super) add_plaintext_headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) add_headers_from_secret: Vec<SecretHeader>,
}

/// A header with its value in a `Secret`.
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

/// `EmbeddingServer`, with the keys that concern its clients.
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

/// Traces and metrics that are sent to a collector.
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

/// A header for the collector with its value in a `Secret`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SensitiveHeader {
    pub(super) name: String,
    pub(super) secret_key_ref: KeyRef,
}

/// A section with nothing but `enabled`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Switch {
    pub(super) enabled: Option<bool>,
}

/// Whether requests are traced, and which share of them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tracing {
    pub(super) enabled: Option<bool>,
    pub(super) sampling_rate: Option<String>,
}

/// The store for sessions.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionStorage {
    pub(super) provider: String,
    pub(super) address: Option<String>,
    pub(super) db: Option<u32>,
    pub(super) key_prefix: Option<String>,
    pub(super) password_ref: Option<KeyRef>,
}

/// `VirtualMCPCompositeToolDefinition`: one tool in the format of `compositeTools`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct CompositeToolDefinition(#[schemars(with = "CompositeTool")] pub(super) Map<String, Value>);
