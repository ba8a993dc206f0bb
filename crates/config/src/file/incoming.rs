//! The section `incomingAuth`: how callers are authenticated, and what policies allow them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How callers are authenticated, and what policies allow them.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IncomingAuth {
    /// How callers are authenticated. `anonymous`: callers have no identity; `local`: every caller is the
    /// operating-system user who runs the gateway; `oidc`: the caller is the subject of a bearer token, or
    /// the holder of an API key; `apiKey`: the caller is the holder of an API key.
    #[serde(rename = "type")]
    pub(crate) kind: IncomingKind,
    /// The OIDC issuer of bearer tokens. Required by `type: oidc`; without effect, with a warning, otherwise.
    pub(crate) oidc: Option<Oidc>,
    /// API keys of machines, at most 1000. Required by `type: apiKey`, allowed with `type: oidc`, refused
    /// with `anonymous` and `local`. Left out: none.
    #[serde(default)]
    pub(crate) api_keys: Vec<ApiKey>,
    /// Policies that say which tools, prompts and resources a caller may use. Left out: every caller may use
    /// everything.
    pub(crate) authz: Option<Authz>,
}

/// How callers are authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IncomingKind {
    Anonymous,
    Local,
    Oidc,
    #[serde(rename = "apiKey")]
    ApiKey,
}

/// An API key of a machine. The gateway keeps only the hash of the key; `vmcp auth new-key` prints a new key
/// and its hash.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiKey {
    /// The name of the key, which becomes the subject of the caller; the issuer is `vmcp:api-key`. It is
    /// unique and at most 256 bytes long.
    pub(crate) name: String,
    /// The SHA-256 hash of the key: `sha256:` and 64 hexadecimal digits.
    pub(crate) hash: String,
    /// The scopes of the caller, which become the claim `scope`. Left out: none.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// Further claims of the caller, for policies and limits. Left out: none.
    #[serde(default)]
    pub(crate) claims: serde_json::Map<String, serde_json::Value>,
    /// The time from which the key is refused, in seconds since 1970-01-01 UTC. Left out: the key does not
    /// expire.
    pub(crate) expires: Option<u64>,
}

/// The OIDC issuer of bearer tokens, and how tokens are checked.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Oidc {
    /// The URL of the issuer, exactly as in the claim `iss`. A URL with a query is refused; `http` is refused
    /// except on a loopback address or with `insecureAllowHttp`.
    pub(crate) issuer: String,
    /// The audience: the claim `aud` of every token must contain it.
    pub(crate) audience: String,
    /// The client id of the gateway at the issuer, for token introspection (RFC 7662). Left out: none, and a
    /// client secret is ignored.
    pub(crate) client_id: Option<String>,
    /// The name of the environment variable with the client secret. A variable that is not set is refused
    /// with `introspectionUrl`, and causes a warning otherwise. Left out: `TOOLHIVE_OIDC_CLIENT_SECRET`.
    pub(crate) client_secret_env: Option<String>,
    /// The URL of the MCP endpoint as clients know it, published in the protected-resource metadata (RFC
    /// 9728). A URL with a query or fragment is refused. Left out: no metadata is published.
    pub(crate) resource: Option<String>,
    /// The URL of the issuer's signing keys (JWKS). Left out: found by OIDC discovery.
    pub(crate) jwks_url: Option<String>,
    /// The URL of the introspection endpoint, where opaque tokens are checked (RFC 7662). Left out: found by
    /// discovery if there is a client secret; otherwise opaque tokens are refused.
    pub(crate) introspection_url: Option<String>,
    /// Scopes that every token must have, in the claim `scope` or `scp`. They are also published in the
    /// protected-resource metadata. Left out: none.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// Allows the issuer, the signing keys and the introspection endpoint on private, link-local and loopback
    /// addresses; has the same effect as `jwksAllowPrivateIp`. Left out: false.
    pub(crate) protected_resource_allow_private_ip: Option<bool>,
    /// Allows the issuer, the signing keys and the introspection endpoint on private, link-local and loopback
    /// addresses; has the same effect as `protectedResourceAllowPrivateIp`. Left out: false.
    pub(crate) jwks_allow_private_ip: Option<bool>,
    /// Allows `http` for the addresses of the issuer. Left out: false, and only loopback addresses may be
    /// `http`.
    pub(crate) insecure_allow_http: Option<bool>,
    /// The absolute path of a PEM file with certificate authorities that are trusted instead of those of the
    /// system. A relative path is refused. Left out: the authorities of the system.
    pub(crate) ca_bundle_path: Option<String>,
    /// The accepted signature algorithms. `none`, algorithms with a shared secret (`HS256`) and `ES512` are
    /// refused. Left out: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384` and `EdDSA`.
    #[serde(default)]
    pub(crate) algorithms: Vec<String>,
    /// The tolerated difference between the clocks of the issuer and the gateway, at most 60s. Left out: 30s.
    pub(crate) leeway: Option<super::GoDuration>,
}

/// Policies that say which tools, prompts and resources a caller may use.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Authz {
    /// The policy language: `cedar`, or `none` for no policies. `none` together with `policies` is refused.
    #[serde(rename = "type")]
    pub(crate) kind: AuthzKind,
    /// The Cedar policies, one text each. With `type: cedar` at least one is required.
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    /// Cedar entities, as a JSON list in a text. Left out: none.
    pub(crate) entities_json: Option<String>,
    /// The upstream provider whose claims are used. Refused, because this build has no embedded authorization
    /// server.
    pub(crate) primary_upstream_provider: Option<String>,
    /// The claim that lists the groups of the caller. Left out: the first of `groups`, `roles` and
    /// `cognito:groups` that holds a list.
    pub(crate) group_claim_name: Option<String>,
    /// The claim that lists the roles of the caller, which count as groups, too. Left out: none.
    pub(crate) role_claim_name: Option<String>,
    /// The Cedar entity type of groups and roles. Left out: `THVGroup`.
    pub(crate) group_entity_type: Option<String>,
}

/// The policy language.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthzKind {
    Cedar,
    None,
}
