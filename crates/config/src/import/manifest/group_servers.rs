//! Converts the servers of the group into backends.

use serde_json::{Map, Value, json};

use super::kinds::{ServerEntry, Workload};
use super::objects::{Object, UnknownKeys};
use super::outgoing::Strategies;
use super::{Conversion, variable_name, without_empty};
use crate::file::NameRef;

/// The folder where ToolHive's operator mounts the certificate authorities of `MCPServerEntry` objects.
const CA_FOLDER: &str = "/etc/toolhive/ca-bundles";

impl Conversion<'_> {
    /// The backends: the list in `spec.config.backends`, else the servers of the group in the manifest. With
    /// `source: inline` the list is ignored.
    pub(super) fn group_backends(
        &mut self,
        group: &str,
        listed: Option<Value>,
        strategies: &mut Strategies,
    ) -> Vec<Value> {
        if let Some(Value::Array(backends)) = listed.filter(|_| !strategies.is_inline()) {
            // As in ToolHive: a list of backends replaces the servers of the group.
            let message = "are the only backends; the servers of the group are left out";
            self.add_remark(&self.server.path("spec.config.backends"), message);
            return backends;
        }
        let mut backends = Vec::new();
        let objects = self.objects;
        for kind in ["MCPServer", "MCPRemoteProxy", "MCPServerEntry"] {
            let own = objects.of_kind(kind).filter(|object| object.is_in(self.namespace));
            for object in own.collect::<Vec<_>>() {
                let backend = match kind {
                    "MCPServerEntry" => self.entry_backend(object, group, strategies),
                    _ => self.workload_backend(object, group, strategies),
                };
                backends.extend(backend);
            }
        }
        if backends.is_empty() {
            let message = format!("no server of group `{group}` is in the file: add them under `backends`");
            self.add_remark("backends", message);
        }
        backends
    }

    /// A server that ToolHive's operator continues to run, at the address of its service.
    fn workload_backend(
        &mut self,
        object: &Object,
        group: &str,
        strategies: &mut Strategies,
    ) -> Option<Value> {
        let spec: Workload = object.parse_spec(UnknownKeys::Ignore, &mut self.findings)?;
        if !is_member(spec.group_ref.as_ref(), group) {
            return None;
        }
        self.assign_object_strategy(object, spec.external_auth_config_ref.as_ref(), strategies)?;
        let is_proxy = object.kind == "MCPRemoteProxy";
        let transport = match (spec.transport.as_deref(), spec.proxy_mode.as_deref()) {
            (Some("sse"), _) => "sse",
            (Some("stdio") | None, Some("sse")) if !is_proxy => "sse",
            _ => "streamable-http",
        };
        let (service, path) = match (is_proxy, transport) {
            (true, _) => (format!("mcp-{}-remote-proxy", object.name), ""),
            (false, "sse") => (format!("mcp-{}-proxy", object.name), "/sse"),
            (false, _) => (format!("mcp-{}-proxy", object.name), "/mcp"),
        };
        let url = match object.text_at_keys(&["status", "url"]) {
            // The fragment is the name of the server, not a part of the address.
            Some(url) => url.split('#').next().unwrap_or(url).to_owned(),
            None => {
                format!("http://{}:{}{path}", self.service_host(&service), spec.proxy_port.unwrap_or(8080))
            }
        };
        if url.contains(".svc.") {
            self.findings.cluster_backends.push(object.name.clone());
        }
        Some(json!({"name": object.name, "url": url, "transport": transport}))
    }

    /// Adds a remark about backends with addresses that exist in the cluster only.
    pub(super) fn report_cluster_addresses(&mut self) {
        let names = std::mem::take(&mut self.findings.cluster_backends);
        if !names.is_empty() {
            let message = format!(
                "of {} are addresses within the cluster; change them to serve elsewhere",
                names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            );
            self.add_remark("backends[].url", message);
        }
    }

    fn entry_backend(&mut self, object: &Object, group: &str, strategies: &mut Strategies) -> Option<Value> {
        let spec: ServerEntry = object.parse_spec(UnknownKeys::Report, &mut self.findings)?;
        if !is_member(spec.group_ref.as_ref(), group) {
            return None;
        }
        if let Some(reason) = object.invalid_reason() {
            let message = format!("is ignored, as in ToolHive: {reason}");
            self.add_remark(&format!("{} {}", object.kind, object.name), message);
            return None;
        }
        self.assign_object_strategy(object, spec.external_auth_config_ref.as_ref(), strategies)?;
        let mut headers = Map::new();
        if let Some(forward) = spec.header_forward {
            headers
                .extend(forward.add_plaintext_headers.into_iter().map(|(name, value)| (name, value.into())));
            for header in forward.add_headers_from_secret {
                let variable = variable_name("TOOLHIVE_SECRET_HEADER_FORWARD", &header.header_name);
                let variable = variable_name(&variable, &object.name);
                let variable = self.variable_for_secret(variable, &header.value_secret_ref);
                headers.insert(header.header_name, format!("${{{variable}}}").into());
            }
        }
        let folder = |_: &str| format!("{CA_FOLDER}/{}", object.name);
        Some(without_empty(json!({
            "name": object.name,
            "url": spec.remote_url,
            "transport": spec.transport,
            "type": "entry",
            "headers": headers,
            "caBundlePath": self.ca_bundle(spec.ca_bundle_ref, folder),
        })))
    }

    /// Sets the strategy of a server, or leaves the server out (`None`) if the strategy cannot be carried
    /// over. Without its credential, requests would be refused, or served as another caller's.
    fn assign_object_strategy(
        &mut self,
        object: &Object,
        own: Option<&NameRef>,
        strategies: &mut Strategies,
    ) -> Option<()> {
        let own = own.map(|reference| &*reference.name);
        let at = object.path("spec.externalAuthConfigRef");
        if self.assign_strategy(strategies, &object.name, own, &at).is_ok() {
            return Some(());
        }
        let message = "is ignored: the gateway does not support the authentication that the object asks for";
        self.add_remark(&format!("{} {}", object.kind, object.name), message);
        None
    }
}

fn is_member(reference: Option<&NameRef>, group: &str) -> bool {
    reference.is_some_and(|reference| reference.name == group)
}
