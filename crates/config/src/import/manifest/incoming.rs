//! Converts `spec.incomingAuth`: how callers are authenticated, and what policies allow them.

use serde_json::{Map, Value, json};

use super::kinds::{
    AuthzConfig, CaBundleRef, CedarDocument, CedarOptions, IncomingAuth, InlineOidc, McpAuthzConfig,
    McpOidcConfig, OidcRef, ServiceAccountOidc,
};
use super::{Conversion, without_empty};

/// The only policy language that both ToolHive's virtual servers and this gateway have.
const CEDAR: &str = "cedarv1";
/// The default key of a `ConfigMap` with policies.
const AUTHZ_KEY: &str = "authz.json";
/// The folder where ToolHive's operator mounts the certificate authorities of an issuer.
const CA_FOLDER: &str = "/config/certs";
/// The issuer of service account tokens, and the file of its authorities, in every pod of Kubernetes.
const CLUSTER_ISSUER: &str = "https://kubernetes.default.svc";
const CLUSTER_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// The variable with the client secret that ToolHive's operator sets.
const CLIENT_SECRET: &str = "VMCP_OIDC_CLIENT_SECRET";

impl Conversion<'_> {
    /// The section `incomingAuth`.
    pub(super) fn convert_incoming_auth(
        &mut self,
        auth: IncomingAuth,
        server: Option<&Map<String, Value>>,
    ) -> Value {
        const AT: &str = "spec.incomingAuth";
        let oidc = match (&*auth.kind, auth.oidc_config_ref) {
            ("anonymous", _) => Value::Null,
            ("oidc", Some(reference)) => self.convert_oidc(&reference),
            ("oidc", None) => {
                self.add_problem(AT, "with `type: oidc` needs `oidcConfigRef`");
                Value::Null
            }
            _ => {
                self.add_problem(&format!("{AT}.type"), "must be one of `anonymous`, `oidc`");
                Value::Null
            }
        };
        let mut authz = match (auth.authz_config, auth.authz_config_ref) {
            (None, None) => Value::Null,
            (Some(config), None) => self.convert_authz(config),
            (None, Some(reference)) => self.convert_shared_authz(&reference.name),
            (Some(_), Some(_)) => {
                self.add_problem(AT, "has both `authzConfig` and `authzConfigRef`; remove one");
                Value::Null
            }
        };
        // Policies read the claims of the upstream provider where callers log in, not those of the tokens
        // that the authorization server issues.
        if let (Some(provider), Some(authz)) = (server.and_then(primary_provider), authz.as_object_mut()) {
            authz.insert("primaryUpstreamProvider".to_owned(), provider);
        }
        without_empty(json!({"type": auth.kind, "oidc": oidc, "authz": authz}))
    }

    fn convert_oidc(&mut self, reference: &OidcRef) -> Value {
        const AT: &str = "spec.incomingAuth.oidcConfigRef";
        let Some((config, object)) =
            self.resolve_reference::<McpOidcConfig>("MCPOIDCConfig", &reference.name, AT)
        else {
            return Value::Null;
        };
        let mut oidc = match (&*config.kind, config.inline) {
            ("inline", Some(inline)) => self.convert_inline_oidc(inline),
            ("kubernetesServiceAccount", _) => {
                let cluster = config.kubernetes_service_account.unwrap_or_default();
                if cluster.use_cluster_auth != Some(false) {
                    let message = "fetches keys with the token of the pod's service account, which this build \
                                   cannot do: unless the cluster serves its keys to anybody, tokens are refused";
                    self.add_remark(&object.path("spec.kubernetesServiceAccount.useClusterAuth"), message);
                }
                cluster_oidc_section(&cluster)
            }
            _ => {
                let message = "must be `inline` or `kubernetesServiceAccount`, with the section of that name";
                self.add_problem_at(object.path("spec.type"), message);
                return Value::Null;
            }
        };
        oidc["audience"] = reference.audience.clone().into();
        oidc["scopes"] = reference.scopes.clone().into();
        let own = || format!("http://{}:4483", self.service_host(&self.server.name));
        oidc["resource"] = reference.resource_url.clone().unwrap_or_else(own).into();
        oidc
    }

    fn convert_inline_oidc(&mut self, oidc: InlineOidc) -> Value {
        let secret =
            oidc.client_secret_ref.map(|key| self.variable_for_secret(CLIENT_SECRET.to_owned(), &key));
        if oidc.jwks_auth_token_path.is_some() {
            let message = "`jwksAuthTokenPath` is not carried over: keys are fetched without a token";
            self.add_remark("MCPOIDCConfig", message);
        }
        json!({
            "issuer": oidc.issuer,
            "clientId": oidc.client_id,
            "clientSecretEnv": secret,
            "jwksUrl": oidc.jwks_url,
            "introspectionUrl": oidc.introspection_url,
            "caBundlePath": self.ca_bundle(oidc.ca_bundle_ref, |map| format!("{CA_FOLDER}/{map}")),
            "protectedResourceAllowPrivateIp": oidc.protected_resource_allow_private_ip,
            "jwksAllowPrivateIp": oidc.jwks_allow_private_ip,
            "insecureAllowHttp": oidc.insecure_allow_http,
        })
    }

    /// The path where ToolHive's operator mounts the certificate authorities of a `ConfigMap`. A remark says
    /// to put the file there.
    pub(super) fn ca_bundle(
        &mut self,
        bundle: Option<CaBundleRef>,
        folder: impl Fn(&str) -> String,
    ) -> Option<String> {
        let map = bundle?.config_map_ref?;
        let key = map.key.unwrap_or_else(|| "ca.crt".to_owned());
        let path = format!("{}/{key}", folder(&map.name));
        let message = format!("is read from {path}: put key `{key}` there, or change the path");
        self.add_remark(&format!("ConfigMap {}", map.name), message);
        Some(path)
    }

    fn convert_authz(&mut self, config: AuthzConfig) -> Value {
        const AT: &str = "spec.incomingAuth.authzConfig";
        let mut authz = match (&*config.kind, config.inline, config.config_map) {
            ("inline", Some(inline), _) => json!({
                "type": "cedar",
                "policies": inline.policies,
                "entitiesJson": inline.entities_json,
                "primaryUpstreamProvider": inline.primary_upstream_provider,
            }),
            ("configMap", _, Some(map)) => {
                let Some(object) = self.find_object("ConfigMap", &map.name, AT) else { return Value::Null };
                let key = map.key.as_deref().unwrap_or(AUTHZ_KEY);
                let Some(document) = object.parse_data::<CedarDocument>(key, &mut self.findings) else {
                    return Value::Null;
                };
                self.expect_cedar(&document.kind, object.path(&format!("data.{key}.type")));
                cedar_section(document.cedar)
            }
            _ => {
                self.add_problem(
                    AT,
                    "must have `type: inline` or `type: configMap`, with the section of that name",
                );
                return Value::Null;
            }
        };
        // The keys of the virtual server take precedence over those of the `ConfigMap`.
        for (key, value) in [
            ("groupClaimName", config.group_claim_name),
            ("roleClaimName", config.role_claim_name),
            ("groupEntityType", config.group_entity_type),
        ] {
            if let Some(value) = value {
                authz[key] = value.into();
            }
        }
        authz
    }

    fn convert_shared_authz(&mut self, name: &str) -> Value {
        const AT: &str = "spec.incomingAuth.authzConfigRef";
        if let Some(object) = self.objects.find("MCPAuthzConfig", name, self.namespace) {
            let kind = object.text_at_keys(&["spec", "type"]).unwrap_or(CEDAR);
            if kind != CEDAR {
                self.expect_cedar(kind, object.path("spec.type"));
                return Value::Null;
            }
        }
        let Some((config, object)) = self.resolve_reference::<McpAuthzConfig>("MCPAuthzConfig", name, AT)
        else {
            return Value::Null;
        };
        self.expect_cedar(&config.kind, object.path("spec.type"));
        cedar_section(config.config)
    }

    fn expect_cedar(&mut self, kind: &str, path: String) {
        if kind != CEDAR {
            self.add_problem_at(
                path,
                "must be `cedarv1`, the only language of policies for a virtual server",
            );
        }
    }
}

/// The upstream provider whose claims policies read: the one that the authorization server names, else its
/// first.
fn primary_provider(server: &Map<String, Value>) -> Option<Value> {
    let named = server.get("primaryUpstreamProvider").and_then(Value::as_str).filter(|name| !name.is_empty());
    let first = || Some(server.get("upstreamProviders")?.get(0)?["name"].as_str().unwrap_or_default());
    let name = named.or_else(first)?;
    Some(if name.is_empty() { "default" } else { name }.into())
}

fn cedar_section(options: CedarOptions) -> Value {
    json!({
        "type": "cedar",
        "policies": options.policies,
        "entitiesJson": options.entities_json,
        "groupClaimName": options.group_claim_name,
        "roleClaimName": options.role_claim_name,
        "groupEntityType": options.group_entity_type,
    })
}

/// The section `oidc` for tokens that the cluster issues.
fn cluster_oidc_section(cluster: &ServiceAccountOidc) -> Value {
    let own = cluster.use_cluster_auth != Some(false);
    json!({
        "issuer": cluster.issuer.as_deref().unwrap_or(CLUSTER_ISSUER),
        "jwksUrl": cluster.jwks_url,
        "introspectionUrl": cluster.introspection_url,
        "caBundlePath": own.then_some(CLUSTER_CA),
        "jwksAllowPrivateIp": own.then_some(true),
    })
}
