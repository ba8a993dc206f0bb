//! The section `outgoingAuth` of the file: how the gateway proves itself to backends.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the gateway proves itself to backends.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutgoingAuth {
    /// `inline`: as written here. `discovered`: from Kubernetes. Left out: `inline`.
    pub(crate) source: Option<AuthSource>,
    /// For backends without an entry of their own. Left out: unauthenticated.
    pub(crate) default: Option<AuthStrategy>,
    /// For single backends, by name.
    #[serde(default)]
    pub(crate) backends: BTreeMap<String, AuthStrategy>,
}

/// Where strategies are read from.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthSource {
    Inline,
    Discovered,
}

/// How the gateway proves itself to one backend: a type, and the section of the same name.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthStrategy {
    /// The strategy.
    #[serde(rename = "type")]
    pub(crate) kind: StrategyKind,
    /// Settings of `header_injection`.
    pub(crate) header_injection: Option<HeaderInjection>,
    /// Settings of `token_exchange`.
    pub(crate) token_exchange: Option<TokenExchange>,
    /// Settings of `upstream_inject`.
    pub(crate) upstream_inject: Option<UpstreamInject>,
    /// Settings of `aws_sts`.
    pub(crate) aws_sts: Option<AwsSts>,
    /// Settings of `obo`.
    pub(crate) obo: Option<Obo>,
    /// Settings of `xaa`.
    pub(crate) xaa: Option<Xaa>,
}

/// The strategies.
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
    /// The strategy's name in the file.
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

/// A header with a fixed value: exactly one of `headerValue` and `headerValueEnv`.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderInjection {
    /// The header's name.
    pub(crate) header_name: String,
    /// Its value.
    pub(crate) header_value: Option<String>,
    /// The variable that holds its value.
    pub(crate) header_value_env: Option<String>,
}

/// Exchanges the caller's token for one the backend accepts (RFC 8693).
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenExchange {
    /// The token endpoint.
    pub(crate) token_url: String,
    /// The client id.
    pub(crate) client_id: Option<String>,
    /// The client secret.
    pub(crate) client_secret: Option<String>,
    /// The variable that holds the client secret.
    pub(crate) client_secret_env: Option<String>,
    /// The audience asked for.
    pub(crate) audience: Option<String>,
    /// The scopes asked for.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// The type of the token given.
    pub(crate) subject_token_type: Option<String>,
    /// The upstream provider whose token is given.
    pub(crate) subject_provider_name: Option<String>,
}

/// Sends the token of an upstream provider.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UpstreamInject {
    /// The upstream provider. Left out: the default one.
    pub(crate) provider_name: Option<String>,
}

/// Signs requests with credentials of an AWS role.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AwsSts {
    /// The AWS region.
    pub(crate) region: String,
    /// The AWS service.
    pub(crate) service: Option<String>,
    /// The role taken when no mapping fits.
    pub(crate) fallback_role_arn: Option<String>,
    /// Roles by claim.
    #[serde(default)]
    pub(crate) role_mappings: Vec<RoleMapping>,
    /// The claim that mappings look at.
    pub(crate) role_claim: Option<String>,
    /// How long credentials live, in seconds.
    pub(crate) session_duration: Option<u32>,
    /// The claim that names the session.
    pub(crate) session_name_claim: Option<String>,
    /// The upstream provider whose token is given.
    pub(crate) subject_provider_name: Option<String>,
}

/// A role for callers whose claims fit.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoleMapping {
    /// The claim's value.
    pub(crate) claim: Option<String>,
    /// A CEL expression over the claims.
    pub(crate) matcher: Option<String>,
    /// The role.
    pub(crate) role_arn: String,
    /// Which mapping wins: the smallest number.
    pub(crate) priority: Option<i64>,
}

/// On behalf of (Microsoft).
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Obo {
    /// The token endpoint.
    pub(crate) token_url: String,
    /// The client id.
    pub(crate) client_id: Option<String>,
    /// The client secret.
    pub(crate) client_secret: Option<String>,
    /// The variable that holds the client secret.
    pub(crate) client_secret_env: Option<String>,
    /// The audience asked for.
    pub(crate) audience: Option<String>,
    /// The scopes asked for.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// The provider whose token is given.
    pub(crate) subject_token_provider_name: Option<String>,
    /// How long before its end a token is renewed.
    pub(crate) cache_skew_seconds: Option<u32>,
}

/// Cross-app access: an identity assertion exchanged in two steps.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Xaa {
    /// The identity provider's token endpoint.
    pub(crate) idp_token_url: String,
    /// The client id there.
    pub(crate) idp_client_id: Option<String>,
    /// The client secret there.
    pub(crate) idp_client_secret: Option<String>,
    /// The variable that holds the client secret there.
    pub(crate) idp_client_secret_env: Option<String>,
    /// The target's token endpoint.
    pub(crate) target_token_url: String,
    /// Allows a target token endpoint without TLS.
    pub(crate) insecure_target_token_url: Option<bool>,
    /// The client id at the target.
    pub(crate) target_client_id: Option<String>,
    /// The client secret at the target.
    pub(crate) target_client_secret: Option<String>,
    /// The variable that holds the client secret at the target.
    pub(crate) target_client_secret_env: Option<String>,
    /// The target's audience.
    pub(crate) target_audience: String,
    /// The target's resource.
    pub(crate) target_resource: Option<String>,
    /// The scopes asked for.
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// The upstream provider whose token is given.
    pub(crate) subject_provider_name: Option<String>,
    /// The type of the token given; only the id token's.
    pub(crate) subject_token_type: Option<String>,
}
