//! `incomingAuth`: who may come in, and what they may do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who callers are and what they may do.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IncomingAuth {
    /// `anonymous`: nobody in particular. `local`: the operating-system user who runs the gateway.
    /// `oidc`: whoever the token says.
    #[serde(rename = "type")]
    pub(crate) kind: IncomingKind,
    /// The issuer that tokens must come from.
    pub(crate) oidc: Option<Oidc>,
    /// Keys of machines, with `type: apiKey` or beside `oidc`.
    #[serde(default)]
    pub(crate) api_keys: Vec<ApiKey>,
    /// What callers may do.
    pub(crate) authz: Option<Authz>,
}

/// How callers are recognised.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IncomingKind {
    Anonymous,
    Local,
    Oidc,
    #[serde(rename = "apiKey")]
    ApiKey,
}

/// A machine's key, of which the gateway knows the hash. `vmcp auth new-key` makes one.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiKey {
    /// Who presents it: the subject of the caller, whose issuer is `vmcp:api-key`.
    pub(crate) name: String,
    /// Its hash, `sha256:` and 64 hexadecimal digits.
    pub(crate) hash: String,
    /// Its scopes: the claim `scope`.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// Further claims.
    #[serde(default)]
    pub(crate) claims: serde_json::Map<String, serde_json::Value>,
    /// The last second of its life, in seconds since 1970. Left out: without an end.
    pub(crate) expires: Option<u64>,
}

/// The issuer that tokens must come from.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Oidc {
    /// The issuer's URL.
    pub(crate) issuer: String,
    /// The audience tokens must name.
    pub(crate) audience: String,
    /// The client id used for token introspection.
    pub(crate) client_id: Option<String>,
    /// The variable that holds the client secret.
    pub(crate) client_secret_env: Option<String>,
    /// The resource URI published in the protected-resource metadata (RFC 9728).
    pub(crate) resource: Option<String>,
    /// Where the signing keys are. Left out: found by discovery.
    pub(crate) jwks_url: Option<String>,
    /// Where opaque tokens are checked (RFC 7662).
    pub(crate) introspection_url: Option<String>,
    /// Scopes that every token must have; published in the protected-resource metadata.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// Allows an issuer on a private address.
    pub(crate) protected_resource_allow_private_ip: Option<bool>,
    /// Allows signing keys on a private address.
    pub(crate) jwks_allow_private_ip: Option<bool>,
    /// Allows an issuer without TLS.
    pub(crate) insecure_allow_http: Option<bool>,
    /// A PEM file of authorities trusted in place of the system's, with its absolute path.
    pub(crate) ca_bundle_path: Option<String>,
    /// Ways of signing that are taken, as `RS256`. Left out: the RSA, PSS, ECDSA and Ed25519 ones.
    #[serde(default)]
    pub(crate) algorithms: Vec<String>,
    /// How far clocks may differ, at most 60s. Left out: 30s.
    pub(crate) leeway: Option<super::GoDuration>,
}

/// What callers may do.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Authz {
    /// `cedar`, or `none` for no policies.
    #[serde(rename = "type")]
    pub(crate) kind: AuthzKind,
    /// Cedar policies.
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    /// Cedar entities as a JSON list.
    pub(crate) entities_json: Option<String>,
    /// The upstream provider whose claims are used.
    pub(crate) primary_upstream_provider: Option<String>,
    /// The claim that lists the caller's groups.
    pub(crate) group_claim_name: Option<String>,
    /// The claim that lists the caller's roles.
    pub(crate) role_claim_name: Option<String>,
    /// The Cedar entity type of groups.
    pub(crate) group_entity_type: Option<String>,
}

/// The language of policies.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthzKind {
    Cedar,
    None,
}
