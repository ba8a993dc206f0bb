//! Converts the sections that refer to other objects, or that the virtual server has outside of
//! `spec.config`.

use serde_json::{Map, Value, json};

use super::kinds::{
    CompositeToolDefinition, EmbeddingServer, SessionStorage, TelemetryConfig, TelemetryRef, ToolConfig,
};
use super::objects::UnknownKeys;
use super::{Conversion, without_empty};
use crate::file::NameRef;

/// The variable with the Redis password that ToolHive's operator sets.
const REDIS_PASSWORD: &str = "THV_SESSION_REDIS_PASSWORD";
/// The folder where ToolHive's operator mounts the certificate authorities of a collector.
const CA_FOLDER: &str = "/config/certs/otel";

impl Conversion<'_> {
    /// The section `aggregation`, with the tools of the `MCPToolConfig` objects that it refers to. Its
    /// defaults are those of a `VirtualMCPServer`, not those of a config file.
    pub(super) fn aggregation(&mut self, configured: Option<Value>) -> Value {
        let mut section = Map::from_iter([("conflictResolution".to_owned(), Value::from("prefix"))]);
        if let Some(Value::Object(configured)) = configured {
            section.extend(configured);
        }
        if section["conflictResolution"] == "prefix" {
            let config = section.entry("conflictResolutionConfig").or_insert_with(|| json!({}));
            if config["prefixFormat"].is_null() {
                config["prefixFormat"] = "{workload}_".into();
            }
        }
        if let Some(Value::Array(tools)) = section.get_mut("tools") {
            for (index, tool) in tools.iter_mut().enumerate() {
                self.merge_tool_config(index, tool);
            }
        }
        Value::Object(section)
    }

    /// Merges an `MCPToolConfig` into an entry of `aggregation.tools`. The keys of the entry take precedence.
    fn merge_tool_config(&mut self, index: usize, tool: &mut Value) {
        let Some(tool) = tool.as_object_mut() else { return };
        let Some(reference) = tool.remove("toolConfigRef") else { return };
        let name = reference["name"].as_str().unwrap_or_default();
        let at = format!("spec.config.aggregation.tools[{index}].toolConfigRef");
        let Some((config, _)) = self.resolve_reference::<ToolConfig>("MCPToolConfig", name, &at) else {
            return;
        };
        let has_filter =
            tool.get("filter").and_then(Value::as_array).is_some_and(|filter| !filter.is_empty());
        if !has_filter && !config.tools_filter.is_empty() {
            tool.insert("filter".to_owned(), config.tools_filter.into());
        }
        if !config.tools_override.is_empty() {
            let overrides = tool.entry("overrides").or_insert_with(|| json!({}));
            for (name, change) in config.tools_override {
                if overrides[&name].is_null() {
                    overrides[&name] = change;
                }
            }
        }
    }

    /// The list `compositeTools`: the tools of `spec.config`, then the definitions that it refers to.
    pub(super) fn composite_tools(
        &mut self,
        configured: Option<Value>,
        references: Option<Value>,
    ) -> Vec<Value> {
        let mut tools = match configured {
            Some(Value::Array(tools)) => tools,
            _ => Vec::new(),
        };
        for reference in references.iter().filter_map(Value::as_array).flatten() {
            const KIND: &str = "VirtualMCPCompositeToolDefinition";
            let name = reference["name"].as_str().unwrap_or_default();
            let definition = self.resolve_reference(KIND, name, "spec.config.compositeToolRefs");
            tools.extend(definition.map(|(CompositeToolDefinition(tool), _)| Value::Object(tool)));
        }
        tools
    }

    /// The section `optimizer`, with the address of the `EmbeddingServer` that the virtual server refers to.
    pub(super) fn optimizer(&mut self, configured: Option<Value>, server: Option<NameRef>) -> Option<Value> {
        let Some(NameRef { name }) = server else { return configured };
        const AT: &str = "spec.embeddingServerRef";
        let object = self.find_object("EmbeddingServer", &name, AT)?;
        let spec: EmbeddingServer = object.parse_spec(UnknownKeys::Ignore, &mut self.findings)?;
        let url = match object.text_at_keys(&["status", "url"]) {
            Some(url) => url.to_owned(),
            None => format!("http://{}:{}", self.service_host(&name), spec.port.unwrap_or(8080)),
        };
        let mut section = configured.unwrap_or_else(|| json!({}));
        section["embeddingService"] = url.into();
        Some(section)
    }

    /// The section `sessionStorage`.
    pub(super) fn session_storage(&mut self, storage: SessionStorage) -> Value {
        if let Some(key) = storage.password_ref {
            let key = format!("key `{}` of Secret `{}`", key.key.unwrap_or_default(), key.name);
            self.add_implicit_variable(REDIS_PASSWORD, key);
        }
        without_empty(json!({
            "provider": storage.provider,
            "address": storage.address,
            "db": storage.db,
            "keyPrefix": storage.key_prefix,
        }))
    }

    /// The section `audit`. As in ToolHive it is on only with `enabled: true`, and the default of `component`
    /// is the name of the virtual server.
    pub(super) fn audit(&self, configured: Value) -> Value {
        let mut section = configured;
        if section["enabled"] != true {
            section["enabled"] = false.into();
        }
        if section["component"].is_null() {
            section["component"] = self.server.name.clone().into();
        }
        section
    }

    /// The section `telemetry`, from the `MCPTelemetryConfig` that the virtual server refers to.
    pub(super) fn telemetry(&mut self, reference: &TelemetryRef) -> Option<Value> {
        const AT: &str = "spec.telemetryConfigRef";
        let (config, _) =
            self.resolve_reference::<TelemetryConfig>("MCPTelemetryConfig", &reference.name, AT)?;
        let mut section = json!({
            "serviceName": reference.service_name.as_deref().unwrap_or(&self.server.name),
            "enablePrometheusMetricsPath": config.prometheus.and_then(|switch| switch.enabled),
        });
        if let Some(collector) = config.open_telemetry.filter(|collector| collector.enabled == Some(true)) {
            let mut headers: Map<String, Value> =
                collector.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            for header in collector.sensitive_headers {
                let variable = super::variable_name("TOOLHIVE_OTEL_HEADER", &header.name);
                let variable = self.variable_for_secret(variable, &header.secret_key_ref);
                headers.insert(header.name, format!("${{{variable}}}").into());
            }
            let endpoint = collector.endpoint.map(|endpoint| {
                let bare = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
                bare.unwrap_or(&endpoint).to_owned()
            });
            let tracing = collector.tracing.as_ref();
            section["endpoint"] = endpoint.into();
            section["insecure"] = collector.insecure.into();
            section["headers"] = headers.into();
            section["customAttributes"] = json!(collector.resource_attributes);
            section["useLegacyAttributes"] = collector.use_legacy_attributes.into();
            section["tracingEnabled"] = tracing.and_then(|tracing| tracing.enabled).unwrap_or(false).into();
            section["samplingRate"] = tracing.and_then(|tracing| tracing.sampling_rate.clone()).into();
            section["metricsEnabled"] =
                collector.metrics.and_then(|switch| switch.enabled).unwrap_or(false).into();
            section["caCertPath"] =
                self.ca_bundle(collector.ca_bundle_ref, |map| format!("{CA_FOLDER}/{map}")).into();
        }
        Some(without_empty(section))
    }
}
