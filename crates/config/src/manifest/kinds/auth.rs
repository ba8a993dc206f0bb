//! The `spec` types about identity: authentication of callers, policies, and credentials for backends.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{CaBundleRef, KeyRef};
use crate::file::{NameRef, RoleMapping};

/// How callers are authenticated, and what policies allow them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct IncomingAuth {
    #[serde(rename = "type")]
    pub(in crate::manifest) kind: String,
    pub(in crate::manifest) oidc_config_ref: Option<OidcRef>,
    pub(in crate::manifest) authz_config: Option<AuthzConfig>,
    pub(in crate::manifest) authz_config_ref: Option<NameRef>,
}

/// A reference to an `MCPOIDCConfig`, with the settings that differ between servers.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct OidcRef {
    pub(in crate::manifest) name: String,
    pub(in crate::manifest) audience: String,
    #[serde(default)]
    pub(in crate::manifest) scopes: Vec<String>,
    pub(in crate::manifest) resource_url: Option<String>,
}

/// Policies, in the manifest itself or in a `ConfigMap`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct AuthzConfig {
    #[serde(rename = "type")]
    pub(in crate::manifest) kind: String,
    pub(in crate::manifest) config_map: Option<KeyRef>,
    pub(in crate::manifest) inline: Option<InlineAuthz>,
    pub(in crate::manifest) group_claim_name: Option<String>,
    pub(in crate::manifest) role_claim_name: Option<String>,
    pub(in crate::manifest) group_entity_type: Option<String>,
}

/// Policies in the manifest itself.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct InlineAuthz {
    pub(in crate::manifest) policies: Vec<String>,
    pub(in crate::manifest) entities_json: Option<String>,
    pub(in crate::manifest) primary_upstream_provider: Option<String>,
}

/// The Cedar policies of an `MCPAuthzConfig` or a `ConfigMap`.
#[derive(Deserialize, JsonSchema)]
pub(in crate::manifest) struct CedarOptions {
    pub(in crate::manifest) policies: Vec<String>,
    pub(in crate::manifest) entities_json: Option<String>,
    /// Has no effect: ToolHive takes the provider from the section of the authorization server only.
    #[serde(rename = "primary_upstream_provider")]
    pub(in crate::manifest) _primary_upstream_provider: Option<String>,
    pub(in crate::manifest) group_claim_name: Option<String>,
    pub(in crate::manifest) role_claim_name: Option<String>,
    pub(in crate::manifest) group_entity_type: Option<String>,
}

/// The document in a `ConfigMap` with policies.
#[derive(Deserialize, JsonSchema)]
pub(in crate::manifest) struct CedarDocument {
    #[serde(rename = "version")]
    pub(in crate::manifest) _version: Option<String>,
    #[serde(rename = "type")]
    pub(in crate::manifest) kind: String,
    pub(in crate::manifest) cedar: CedarOptions,
}

/// `MCPAuthzConfig`.
#[derive(Deserialize, JsonSchema)]
pub(in crate::manifest) struct McpAuthzConfig {
    #[serde(rename = "type")]
    pub(in crate::manifest) kind: String,
    pub(in crate::manifest) config: CedarOptions,
}

/// `MCPOIDCConfig`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct McpOidcConfig {
    #[serde(rename = "type")]
    pub(in crate::manifest) kind: String,
    pub(in crate::manifest) inline: Option<InlineOidc>,
    pub(in crate::manifest) kubernetes_service_account: Option<ServiceAccountOidc>,
}

/// An OIDC issuer, with its addresses.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct InlineOidc {
    pub(in crate::manifest) issuer: String,
    pub(in crate::manifest) jwks_url: Option<String>,
    pub(in crate::manifest) introspection_url: Option<String>,
    pub(in crate::manifest) client_id: Option<String>,
    pub(in crate::manifest) client_secret_ref: Option<KeyRef>,
    pub(in crate::manifest) ca_bundle_ref: Option<CaBundleRef>,
    pub(in crate::manifest) jwks_auth_token_path: Option<String>,
    #[serde(rename = "jwksAllowPrivateIP")]
    pub(in crate::manifest) jwks_allow_private_ip: Option<bool>,
    #[serde(rename = "protectedResourceAllowPrivateIP")]
    pub(in crate::manifest) protected_resource_allow_private_ip: Option<bool>,
    #[serde(rename = "insecureAllowHTTP")]
    pub(in crate::manifest) insecure_allow_http: Option<bool>,
}

/// The cluster as the issuer of service account tokens.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct ServiceAccountOidc {
    #[serde(rename = "serviceAccount")]
    pub(in crate::manifest) _service_account: Option<String>,
    #[serde(rename = "namespace")]
    pub(in crate::manifest) _namespace: Option<String>,
    pub(in crate::manifest) issuer: Option<String>,
    pub(in crate::manifest) jwks_url: Option<String>,
    pub(in crate::manifest) introspection_url: Option<String>,
    pub(in crate::manifest) use_cluster_auth: Option<bool>,
}

/// The credentials that the gateway sends to backends.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct OutgoingAuth {
    /// `inline` or `discovered`; left out, it is `discovered`.
    pub(in crate::manifest) source: Option<String>,
    pub(in crate::manifest) default: Option<BackendAuth>,
    #[serde(default)]
    pub(in crate::manifest) backends: BTreeMap<String, BackendAuth>,
}

/// The credential for one backend.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct BackendAuth {
    #[serde(rename = "type")]
    pub(in crate::manifest) kind: String,
    pub(in crate::manifest) external_auth_config_ref: Option<NameRef>,
}

/// `MCPExternalAuthConfig`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct ExternalAuthConfig {
    #[serde(rename = "type")]
    pub(in crate::manifest) kind: String,
    pub(in crate::manifest) token_exchange: Option<TokenExchange>,
    pub(in crate::manifest) header_injection: Option<HeaderInjection>,
    #[serde(rename = "bearerToken")]
    pub(in crate::manifest) _bearer_token: Option<Value>,
    pub(in crate::manifest) aws_sts: Option<AwsSts>,
    #[serde(rename = "upstreamInject")]
    pub(in crate::manifest) _upstream_inject: Option<Value>,
    pub(in crate::manifest) xaa: Option<Xaa>,
    #[serde(rename = "embeddedAuthServer")]
    pub(in crate::manifest) _embedded_auth_server: Option<Value>,
    #[serde(rename = "obo")]
    pub(in crate::manifest) _obo: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct TokenExchange {
    pub(in crate::manifest) token_url: String,
    pub(in crate::manifest) client_id: Option<String>,
    pub(in crate::manifest) client_secret_ref: Option<KeyRef>,
    pub(in crate::manifest) audience: Option<String>,
    #[serde(default)]
    pub(in crate::manifest) scopes: Vec<String>,
    pub(in crate::manifest) subject_token_type: Option<String>,
    pub(in crate::manifest) external_token_header_name: Option<String>,
    pub(in crate::manifest) subject_provider_name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct HeaderInjection {
    pub(in crate::manifest) header_name: String,
    pub(in crate::manifest) value_secret_ref: KeyRef,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct AwsSts {
    pub(in crate::manifest) region: String,
    pub(in crate::manifest) service: Option<String>,
    pub(in crate::manifest) fallback_role_arn: Option<String>,
    #[serde(default)]
    pub(in crate::manifest) role_mappings: Vec<RoleMapping>,
    pub(in crate::manifest) role_claim: Option<String>,
    pub(in crate::manifest) session_duration: Option<u32>,
    pub(in crate::manifest) session_name_claim: Option<String>,
    pub(in crate::manifest) subject_provider_name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct Xaa {
    pub(in crate::manifest) idp_token_url: String,
    pub(in crate::manifest) idp_client_id: Option<String>,
    pub(in crate::manifest) idp_client_secret_ref: Option<KeyRef>,
    pub(in crate::manifest) target_token_url: String,
    pub(in crate::manifest) insecure_target_token_url: Option<bool>,
    pub(in crate::manifest) target_client_id: Option<String>,
    pub(in crate::manifest) target_client_secret_ref: Option<KeyRef>,
    pub(in crate::manifest) target_audience: String,
    pub(in crate::manifest) target_resource: Option<String>,
    #[serde(default)]
    pub(in crate::manifest) scopes: Vec<String>,
    pub(in crate::manifest) subject_provider_name: Option<String>,
    pub(in crate::manifest) subject_token_type: Option<String>,
}
