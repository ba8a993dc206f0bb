//! Converts the credentials for backends: `spec.outgoingAuth`, and the `MCPExternalAuthConfig` objects that
//! the servers of the group refer to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::kinds::{
    AwsSts, BackendAuth, ExternalAuthConfig, HeaderInjection, OutgoingAuth, TokenExchange, Xaa,
};
use super::objects::UnknownKeys;
use super::{Conversion, variable_name, without_empty};

/// The strategies of the backends.
#[derive(Default)]
pub(super) struct Strategies {
    /// True if the strategy of a backend's own object takes precedence over the one that the virtual server
    /// has for it.
    prefers_backend_object: bool,
    /// The strategy for backends without one.
    default: Option<Value>,
    /// The strategies that the virtual server has, by backend. `None` (`type: discovered`) leaves the
    /// strategy to the backend's own object.
    inline: BTreeMap<String, Option<Value>>,
    backends: Map<String, Value>,
}

/// The credential of a backend cannot be carried over. The reason is reported already.
pub(super) struct UnusableStrategy;

impl Strategies {
    /// True if `source` is `inline`: the strategies of the virtual server take precedence over those of
    /// backends' own objects.
    pub(super) fn is_inline(&self) -> bool {
        !self.prefers_backend_object
    }

    /// The section `outgoingAuth`; `None` if there is no strategy.
    pub(super) fn section(self) -> Option<Value> {
        let Self { default, backends, .. } = self;
        (default.is_some() || !backends.is_empty())
            .then(|| without_empty(json!({"source": "inline", "default": default, "backends": backends})))
    }
}

impl Conversion<'_> {
    /// The strategies that the virtual server has.
    pub(super) fn inline_strategies(&mut self, auth: Option<OutgoingAuth>) -> Strategies {
        let source = auth.as_ref().and_then(|auth| auth.source.as_deref());
        // As in ToolHive: the strategies of backends' own objects take precedence unless `source` is
        // `inline`.
        let mut strategies =
            Strategies { prefers_backend_object: source != Some("inline"), ..Strategies::default() };
        let Some(auth) = auth else { return strategies };
        if let Some(default) = auth.default {
            strategies.default = self.inline_strategy(&default, "spec.outgoingAuth.default");
        }
        for (name, backend) in auth.backends {
            let strategy = self.inline_strategy(&backend, &format!("spec.outgoingAuth.backends.{name}"));
            strategies.inline.insert(name, strategy);
        }
        strategies
    }

    fn inline_strategy(&mut self, auth: &BackendAuth, at: &str) -> Option<Value> {
        match (&*auth.kind, &auth.external_auth_config_ref) {
            ("discovered", _) => None,
            ("externalAuthConfigRef", Some(reference)) => {
                let before = self.findings.problems.len();
                let strategy = self.strategy_of_object(&reference.name, at);
                if strategy.is_err() && self.findings.problems.len() == before {
                    // Without this default or override, requests would be sent without the credential.
                    self.add_problem(at, "cannot be carried over; the warnings say why");
                }
                strategy.ok()
            }
            _ => {
                let message =
                    "must have `type: discovered`, or `type: externalAuthConfigRef` and that reference";
                self.add_problem(at, message);
                None
            }
        }
    }

    /// Sets the strategy of a backend: the one that its own object names, or the one that the virtual server
    /// has for it.
    pub(super) fn assign_strategy(
        &mut self,
        strategies: &mut Strategies,
        backend: &str,
        own_config: Option<&str>,
        at: &str,
    ) -> Result<(), UnusableStrategy> {
        let strategy = match (strategies.inline.remove(backend), own_config) {
            (Some(Some(written)), None) => written,
            (Some(Some(written)), Some(_)) if !strategies.prefers_backend_object => written,
            (_, Some(own_config)) => self.strategy_of_object(own_config, at)?,
            // Without this, the backend would get the default; with `type: discovered` and no object of its
            // own it gets no credential.
            (Some(None), None) => json!({"type": "unauthenticated"}),
            (None, None) => return Ok(()),
        };
        strategies.backends.insert(backend.to_owned(), strategy);
        Ok(())
    }

    /// Adds the strategies for backends that the manifest does not contain.
    pub(super) fn add_unassigned_strategies(strategies: &mut Strategies) {
        for (name, strategy) in std::mem::take(&mut strategies.inline) {
            strategies.backends.extend(strategy.map(|strategy| (name, strategy)));
        }
    }

    /// The strategy of an `MCPExternalAuthConfig`.
    fn strategy_of_object(&mut self, name: &str, at: &str) -> Result<Value, UnusableStrategy> {
        const KIND: &str = "MCPExternalAuthConfig";
        let object = self.find_object(KIND, name, at).ok_or(UnusableStrategy)?;
        if let Some(reason) = object.invalid_reason() {
            self.add_remark(&format!("{KIND} {name}"), format!("is not valid in the cluster: {reason}"));
            return Err(UnusableStrategy);
        }
        let config: ExternalAuthConfig =
            object.parse_spec(UnknownKeys::Report, &mut self.findings).ok_or(UnusableStrategy)?;
        let ExternalAuthConfig { kind, token_exchange, header_injection, .. } = config;
        let ExternalAuthConfig { aws_sts, xaa, .. } = config;
        let strategy = match &*kind {
            "unauthenticated" => Some(json!({"type": "unauthenticated"})),
            "tokenExchange" => token_exchange.map(|section| self.token_exchange(section, name)),
            "headerInjection" => header_injection.map(|section| self.header_injection(section, name)),
            "awsSts" => aws_sts.map(aws_sts_section),
            "xaa" => xaa.map(|section| self.xaa(section, name)),
            "bearerToken" | "embeddedAuthServer" | "obo" => {
                let message = format!("a virtual server cannot use `{kind}`, here as in ToolHive");
                self.add_remark(&object.path("spec.type"), message);
                return Err(UnusableStrategy);
            }
            "upstreamInject" => {
                let message =
                    "`upstreamInject` needs an authorization server, which this build does not have yet";
                self.add_remark(&object.path("spec.type"), message);
                return Err(UnusableStrategy);
            }
            _ => {
                self.add_problem_at(object.path("spec.type"), "is not known");
                return Err(UnusableStrategy);
            }
        };
        strategy.map(without_empty).ok_or_else(|| {
            self.add_problem_at(object.path(&format!("spec.{kind}")), "is required");
            UnusableStrategy
        })
    }

    fn token_exchange(&mut self, section: TokenExchange, name: &str) -> Value {
        if section.external_token_header_name.is_some() {
            let path = format!("MCPExternalAuthConfig {name} spec.tokenExchange.externalTokenHeaderName");
            self.add_remark(&path, "has no effect behind a virtual server, and is ignored");
        }
        let secret = section.client_secret_ref.map(|key| {
            self.variable_for_secret(variable_name("TOOLHIVE_TOKEN_EXCHANGE_CLIENT_SECRET", name), &key)
        });
        let kind = section.subject_token_type.map(|kind| match &*kind {
            "access_token" | "id_token" | "jwt" => format!("urn:ietf:params:oauth:token-type:{kind}"),
            _ => kind,
        });
        json!({"type": "token_exchange", "tokenExchange": {
            "tokenUrl": section.token_url,
            "clientId": section.client_id,
            "clientSecretEnv": secret,
            "audience": section.audience,
            "scopes": section.scopes,
            "subjectTokenType": kind,
            "subjectProviderName": section.subject_provider_name,
        }})
    }

    fn header_injection(&mut self, section: HeaderInjection, name: &str) -> Value {
        let variable = variable_name("TOOLHIVE_HEADER_INJECTION_VALUE", name);
        let variable = self.variable_for_secret(variable, &section.value_secret_ref);
        let header = json!({"headerName": section.header_name, "headerValueEnv": variable});
        json!({"type": "header_injection", "headerInjection": header})
    }

    fn xaa(&mut self, section: Xaa, name: &str) -> Value {
        let idp_secret = section
            .idp_client_secret_ref
            .map(|key| self.variable_for_secret(variable_name("TOOLHIVE_XAA_IDP_CLIENT_SECRET", name), &key));
        let target_secret = section.target_client_secret_ref.map(|key| {
            self.variable_for_secret(variable_name("TOOLHIVE_XAA_TARGET_CLIENT_SECRET", name), &key)
        });
        json!({"type": "xaa", "xaa": {
            "idpTokenUrl": section.idp_token_url,
            "idpClientId": section.idp_client_id,
            "idpClientSecretEnv": idp_secret,
            "targetTokenUrl": section.target_token_url,
            "insecureTargetTokenUrl": section.insecure_target_token_url,
            "targetClientId": section.target_client_id,
            "targetClientSecretEnv": target_secret,
            "targetAudience": section.target_audience,
            "targetResource": section.target_resource,
            "scopes": section.scopes,
            "subjectProviderName": section.subject_provider_name,
            "subjectTokenType": section.subject_token_type,
        }})
    }
}

fn aws_sts_section(section: AwsSts) -> Value {
    json!({"type": "aws_sts", "awsSts": {
        "region": section.region,
        "service": section.service,
        "fallbackRoleArn": section.fallback_role_arn,
        "roleMappings": section.role_mappings,
        "roleClaim": section.role_claim,
        "sessionDuration": section.session_duration,
        "sessionNameClaim": section.session_name_claim,
        "subjectProviderName": section.subject_provider_name,
    }})
}
