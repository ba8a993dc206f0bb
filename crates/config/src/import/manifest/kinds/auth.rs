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
pub(in crate::import::manifest) struct IncomingAuth {
    #[serde(rename = "type")]
    pub(in crate::import::manifest) kind: String,
    pub(in crate::import::manifest) oidc_config_ref: Option<OidcRef>,
    pub(in crate::import::manifest) authz_config: Option<AuthzConfig>,
    pub(in crate::import::manifest) authz_config_ref: Option<NameRef>,
}

/// A reference to an `MCPOIDCConfig`, with the settings that differ between servers.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct OidcRef {
    pub(in crate::import::manifest) name: String,
    pub(in crate::import::manifest) audience: String,
    #[serde(default)]
    pub(in crate::import::manifest) scopes: Vec<String>,
    pub(in crate::import::manifest) resource_url: Option<String>,
}

/// Policies, in the manifest itself or in a `ConfigMap`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct AuthzConfig {
    #[serde(rename = "type")]
    pub(in crate::import::manifest) kind: String,
    pub(in crate::import::manifest) config_map: Option<KeyRef>,
    pub(in crate::import::manifest) inline: Option<InlineAuthz>,
    pub(in crate::import::manifest) group_claim_name: Option<String>,
    pub(in crate::import::manifest) role_claim_name: Option<String>,
    pub(in crate::import::manifest) group_entity_type: Option<String>,
}

/// Policies in the manifest itself.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct InlineAuthz {
    pub(in crate::import::manifest) policies: Vec<String>,
    pub(in crate::import::manifest) entities_json: Option<String>,
    pub(in crate::import::manifest) primary_upstream_provider: Option<String>,
}

/// The Cedar policies of an `MCPAuthzConfig` or a `ConfigMap`.
#[derive(Deserialize, JsonSchema)]
pub(in crate::import::manifest) struct CedarOptions {
    pub(in crate::import::manifest) policies: Vec<String>,
    pub(in crate::import::manifest) entities_json: Option<String>,
    /// Has no effect: ToolHive takes the provider from the section of the authorization server only.
    #[serde(rename = "primary_upstream_provider")]
    pub(in crate::import::manifest) _primary_upstream_provider: Option<String>,
    pub(in crate::import::manifest) group_claim_name: Option<String>,
    pub(in crate::import::manifest) role_claim_name: Option<String>,
    pub(in crate::import::manifest) group_entity_type: Option<String>,
}

/// The document in a `ConfigMap` with policies.
#[derive(Deserialize, JsonSchema)]
pub(in crate::import::manifest) struct CedarDocument {
    #[serde(rename = "version")]
    pub(in crate::import::manifest) _version: Option<String>,
    #[serde(rename = "type")]
    pub(in crate::import::manifest) kind: String,
    pub(in crate::import::manifest) cedar: CedarOptions,
}

/// `MCPAuthzConfig`.
#[derive(Deserialize, JsonSchema)]
pub(in crate::import::manifest) struct McpAuthzConfig {
    #[serde(rename = "type")]
    pub(in crate::import::manifest) kind: String,
    pub(in crate::import::manifest) config: CedarOptions,
}

/// `MCPOIDCConfig`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct McpOidcConfig {
    #[serde(rename = "type")]
    pub(in crate::import::manifest) kind: String,
    pub(in crate::import::manifest) inline: Option<InlineOidc>,
    pub(in crate::import::manifest) kubernetes_service_account: Option<ServiceAccountOidc>,
}

/// An OIDC issuer, with its addresses.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct InlineOidc {
    pub(in crate::import::manifest) issuer: String,
    pub(in crate::import::manifest) jwks_url: Option<String>,
    pub(in crate::import::manifest) introspection_url: Option<String>,
    pub(in crate::import::manifest) client_id: Option<String>,
    pub(in crate::import::manifest) client_secret_ref: Option<KeyRef>,
    pub(in crate::import::manifest) ca_bundle_ref: Option<CaBundleRef>,
    pub(in crate::import::manifest) jwks_auth_token_path: Option<String>,
    #[serde(rename = "jwksAllowPrivateIP")]
    pub(in crate::import::manifest) jwks_allow_private_ip: Option<bool>,
    #[serde(rename = "protectedResourceAllowPrivateIP")]
    pub(in crate::import::manifest) protected_resource_allow_private_ip: Option<bool>,
    #[serde(rename = "insecureAllowHTTP")]
    pub(in crate::import::manifest) insecure_allow_http: Option<bool>,
}

/// The cluster as the issuer of service account tokens.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct ServiceAccountOidc {
    #[serde(rename = "serviceAccount")]
    pub(in crate::import::manifest) _service_account: Option<String>,
    #[serde(rename = "namespace")]
    pub(in crate::import::manifest) _namespace: Option<String>,
    pub(in crate::import::manifest) issuer: Option<String>,
    pub(in crate::import::manifest) jwks_url: Option<String>,
    pub(in crate::import::manifest) introspection_url: Option<String>,
    pub(in crate::import::manifest) use_cluster_auth: Option<bool>,
}

/// The credentials that the gateway sends to backends.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct OutgoingAuth {
    /// `inline` or `discovered`; left out, it is `discovered`.
    pub(in crate::import::manifest) source: Option<String>,
    pub(in crate::import::manifest) default: Option<BackendAuth>,
    #[serde(default)]
    pub(in crate::import::manifest) backends: BTreeMap<String, BackendAuth>,
}

/// The credential for one backend.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct BackendAuth {
    #[serde(rename = "type")]
    pub(in crate::import::manifest) kind: String,
    pub(in crate::import::manifest) external_auth_config_ref: Option<NameRef>,
}

/// `MCPExternalAuthConfig`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct ExternalAuthConfig {
    #[serde(rename = "type")]
    pub(in crate::import::manifest) kind: String,
    pub(in crate::import::manifest) token_exchange: Option<TokenExchange>,
    pub(in crate::import::manifest) header_injection: Option<HeaderInjection>,
    #[serde(rename = "bearerToken")]
    pub(in crate::import::manifest) _bearer_token: Option<Value>,
    pub(in crate::import::manifest) aws_sts: Option<AwsSts>,
    #[serde(rename = "upstreamInject")]
    pub(in crate::import::manifest) _upstream_inject: Option<Value>,
    pub(in crate::import::manifest) xaa: Option<Xaa>,
    #[serde(rename = "embeddedAuthServer")]
    pub(in crate::import::manifest) _embedded_auth_server: Option<Value>,
    #[serde(rename = "obo")]
    pub(in crate::import::manifest) _obo: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct TokenExchange {
    pub(in crate::import::manifest) token_url: String,
    pub(in crate::import::manifest) client_id: Option<String>,
    pub(in crate::import::manifest) client_secret_ref: Option<KeyRef>,
    pub(in crate::import::manifest) audience: Option<String>,
    #[serde(default)]
    pub(in crate::import::manifest) scopes: Vec<String>,
    pub(in crate::import::manifest) subject_token_type: Option<String>,
    pub(in crate::import::manifest) external_token_header_name: Option<String>,
    pub(in crate::import::manifest) subject_provider_name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct HeaderInjection {
    pub(in crate::import::manifest) header_name: String,
    pub(in crate::import::manifest) value_secret_ref: KeyRef,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct AwsSts {
    pub(in crate::import::manifest) region: String,
    pub(in crate::import::manifest) service: Option<String>,
    pub(in crate::import::manifest) fallback_role_arn: Option<String>,
    #[serde(default)]
    pub(in crate::import::manifest) role_mappings: Vec<RoleMapping>,
    pub(in crate::import::manifest) role_claim: Option<String>,
    pub(in crate::import::manifest) session_duration: Option<u32>,
    pub(in crate::import::manifest) session_name_claim: Option<String>,
    pub(in crate::import::manifest) subject_provider_name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::import::manifest) struct Xaa {
    pub(in crate::import::manifest) idp_token_url: String,
    pub(in crate::import::manifest) idp_client_id: Option<String>,
    pub(in crate::import::manifest) idp_client_secret_ref: Option<KeyRef>,
    pub(in crate::import::manifest) target_token_url: String,
    pub(in crate::import::manifest) insecure_target_token_url: Option<bool>,
    pub(in crate::import::manifest) target_client_id: Option<String>,
    pub(in crate::import::manifest) target_client_secret_ref: Option<KeyRef>,
    pub(in crate::import::manifest) target_audience: String,
    pub(in crate::import::manifest) target_resource: Option<String>,
    #[serde(default)]
    pub(in crate::import::manifest) scopes: Vec<String>,
    pub(in crate::import::manifest) subject_provider_name: Option<String>,
    pub(in crate::import::manifest) subject_token_type: Option<String>,
}
