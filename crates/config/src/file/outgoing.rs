//! The section `outgoingAuth`: the credentials that the gateway sends to HTTP backends.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The credentials that the gateway sends to HTTP backends.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutgoingAuth {
    /// Where the strategies are read from. `inline`: from this file; `discovered`: from Kubernetes objects,
    /// which is refused in this build. Left out: `inline`.
    pub(crate) source: Option<AuthSource>,
    /// The strategy for HTTP backends without an entry in `backends`. Left out: no credential.
    pub(crate) default: Option<AuthStrategy>,
    /// The strategies of single backends, by the name of the backend. Refused for stdio backends, which take
    /// no headers. Left out: none.
    #[serde(default)]
    pub(crate) backends: BTreeMap<String, AuthStrategy>,
}

/// Where the strategies are read from.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthSource {
    Inline,
    Discovered,
}

/// The credential for one backend: a type, and the section of the same name. A section of another type is
/// refused.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthStrategy {
    /// The strategy. `upstream_inject` and `obo` are refused, because the gateway has no source for their
    /// tokens; `token_exchange`, `aws_sts` and `xaa` require `incomingAuth` with `type: oidc`.
    #[serde(rename = "type")]
    pub(crate) kind: StrategyKind,
    /// The settings of `header_injection`, required by it.
    pub(crate) header_injection: Option<HeaderInjection>,
    /// The settings of `token_exchange`, required by it.
    pub(crate) token_exchange: Option<TokenExchange>,
    /// The settings of `upstream_inject`, which this build refuses.
    pub(crate) upstream_inject: Option<UpstreamInject>,
    /// The settings of `aws_sts`, required by it.
    pub(crate) aws_sts: Option<AwsSts>,
    /// The settings of `obo`, which this build refuses.
    pub(crate) obo: Option<Obo>,
    /// The settings of `xaa`, required by it.
    pub(crate) xaa: Option<Xaa>,
}

/// How the gateway gets the credential for a backend.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StrategyKind {
    Unauthenticated,
    HeaderInjection,
    TokenExchange,
    UpstreamInject,
    AwsSts,
    Obo,
    Xaa,
}

impl StrategyKind {
    /// The name of the strategy in the config file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::HeaderInjection => "header_injection",
            Self::TokenExchange => "token_exchange",
            Self::UpstreamInject => "upstream_inject",
            Self::AwsSts => "aws_sts",
            Self::Obo => "obo",
            Self::Xaa => "xaa",
        }
    }
}

/// A fixed header, the same for every caller. Exactly one of `headerValue` and `headerValueEnv` is required.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderInjection {
    /// The name of the header. Headers that the gateway writes itself (`Host`, `Content-Type` and others) and
    /// `Mcp-*` are refused.
    pub(crate) header_name: String,
    /// The value of the header. An empty value, a line break or another control character, and a blank at the
    /// beginning or the end are refused.
    pub(crate) header_value: Option<String>,
    /// The name of the environment variable with the value. A variable that is not set, or empty, is refused.
    pub(crate) header_value_env: Option<String>,
}

/// Exchanges the caller's token for a token that the backend accepts (RFC 8693).
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenExchange {
    /// The URL of the token endpoint: `https`, or `http` on this machine.
    pub(crate) token_url: String,
    /// The client id of the gateway at the token endpoint. Required with a client secret. Left out: no
    /// client.
    pub(crate) client_id: Option<String>,
    /// The client secret. Refused together with `clientSecretEnv`. Left out: none.
    pub(crate) client_secret: Option<String>,
    /// The name of the environment variable with the client secret. A variable that is not set, or empty, is
    /// refused. Left out: none.
    pub(crate) client_secret_env: Option<String>,
    /// The audience of the requested token. Left out: none is requested.
    pub(crate) audience: Option<String>,
    /// The scopes of the requested token, at most 64. Left out: the default of the issuer.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// The type of the caller's token: `access_token`, `id_token` or `jwt`, or the URN of one of them.
    /// Left out: `access_token`.
    pub(crate) subject_token_type: Option<String>,
    /// The upstream provider whose token is exchanged. Refused, because the gateway keeps no logins at
    /// upstream providers.
    pub(crate) subject_provider_name: Option<String>,
}

/// Sends the token of an upstream provider. Not in this build: the strategy is refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UpstreamInject {
    /// The name of the upstream provider. Left out: the default provider.
    pub(crate) provider_name: Option<String>,
}

/// Signs requests (SigV4) with temporary keys of an AWS role that the caller's token is exchanged for
/// (AssumeRoleWithWebIdentity).
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AwsSts {
    /// The AWS region, such as `eu-central-1`.
    pub(crate) region: String,
    /// The AWS service name in the signature. Left out: `aws-mcp`.
    pub(crate) service: Option<String>,
    /// The ARN of the role for callers that no mapping matches. Required without `roleMappings`. Left out:
    /// such callers are refused.
    pub(crate) fallback_role_arn: Option<String>,
    /// AWS roles by the claims of the caller, at most 256. Required without `fallbackRoleArn`. Left out:
    /// none.
    #[serde(default)]
    pub(crate) role_mappings: Vec<RoleMapping>,
    /// The claim that `claim` in `roleMappings` is compared with. Left out: `groups`.
    pub(crate) role_claim: Option<String>,
    /// How long the keys are valid, in seconds, 900 to 43200. Left out: 3600.
    pub(crate) session_duration: Option<u32>,
    /// The claim whose value is the name of the role session, 2 to 64 letters, digits and `_+=,.@-`.
    /// Left out: `sub`.
    pub(crate) session_name_claim: Option<String>,
    /// The upstream provider whose token is exchanged. Refused, because the gateway keeps no logins at
    /// upstream providers.
    pub(crate) subject_provider_name: Option<String>,
}

/// An AWS role for callers whose claims match. Exactly one of `claim` and `matcher` is required.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoleMapping {
    /// A value of the claim `roleClaim`, or an item if that claim is a list.
    pub(crate) claim: Option<String>,
    /// A CEL expression over `claims`. A caller for whom it cannot be evaluated, for example because a claim
    /// is missing, does not match.
    pub(crate) matcher: Option<String>,
    /// The ARN of the role, such as `arn:aws:iam::123456789012:role/name`.
    pub(crate) role_arn: String,
    /// The precedence among several mappings that match: the smallest number wins. Left out: after all
    /// mappings with a number, in the order of the file.
    pub(crate) priority: Option<i64>,
}

/// The on-behalf-of flow of Microsoft Entra. Not in this build: the strategy is refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Obo {
    /// The URL of the token endpoint.
    pub(crate) token_url: String,
    /// The client id of the gateway.
    pub(crate) client_id: Option<String>,
    /// The client secret.
    pub(crate) client_secret: Option<String>,
    /// The name of the environment variable with the client secret.
    pub(crate) client_secret_env: Option<String>,
    /// The audience of the requested token.
    pub(crate) audience: Option<String>,
    /// The scopes of the requested token.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// The upstream provider whose token is exchanged.
    pub(crate) subject_token_provider_name: Option<String>,
    /// How many seconds before its end a token is renewed.
    pub(crate) cache_skew_seconds: Option<u32>,
}

/// Cross-app access: the identity provider exchanges the caller's ID token for an identity assertion
/// (ID-JAG), and the target's authorization server exchanges that for an access token.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Xaa {
    /// The URL of the identity provider's token endpoint: `https`, or `http` on this machine.
    pub(crate) idp_token_url: String,
    /// The client id of the gateway at the identity provider. Required with a client secret. Left out: no
    /// client.
    pub(crate) idp_client_id: Option<String>,
    /// The client secret at the identity provider. Refused together with `idpClientSecretEnv`. Left out:
    /// none.
    pub(crate) idp_client_secret: Option<String>,
    /// The name of the environment variable with the client secret at the identity provider. A variable that
    /// is not set, or empty, is refused. Left out: none.
    pub(crate) idp_client_secret_env: Option<String>,
    /// The URL of the target's token endpoint: `https`, or `http` on this machine or with
    /// `insecureTargetTokenUrl`.
    pub(crate) target_token_url: String,
    /// Allows `http` for `targetTokenUrl`, with a warning. Left out: false.
    pub(crate) insecure_target_token_url: Option<bool>,
    /// The client id of the gateway at the target. Required with a client secret. Left out: no client.
    pub(crate) target_client_id: Option<String>,
    /// The client secret at the target. Refused together with `targetClientSecretEnv`. Left out: none.
    pub(crate) target_client_secret: Option<String>,
    /// The name of the environment variable with the client secret at the target. A variable that is not set,
    /// or empty, is refused. Left out: none.
    pub(crate) target_client_secret_env: Option<String>,
    /// The audience of the assertion: the issuer of the target's authorization server.
    pub(crate) target_audience: String,
    /// The resource (RFC 8707) of the requested token, an absolute URI without a fragment. Left out: none is
    /// requested.
    pub(crate) target_resource: Option<String>,
    /// The scopes of the requested token, at most 64. Left out: the default of the issuers.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// The upstream provider whose token is exchanged. Refused, because the gateway keeps no logins at
    /// upstream providers.
    pub(crate) subject_provider_name: Option<String>,
    /// The type of the caller's token. Only `id_token`, or its URN, is accepted. Left out: `id_token`.
    pub(crate) subject_token_type: Option<String>,
}
