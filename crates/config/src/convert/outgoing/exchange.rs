//! Converts the strategies that exchange the caller's token for a credential of the backend:
//! `token_exchange`, `xaa` and `aws_sts`.

use vmcp_backends::policy::Secret;
use vmcp_credentials::{
    AwsStsPolicy, OAuthClient, PolicyError, RoleMapping, RoleMatch, Roles, Strategy, TokenExchangePolicy,
    TokenUrl, XaaPolicy,
};

use super::super::Findings;
use crate::file::{AwsSts, RoleMapping as FileMapping, StrategyKind, TokenExchange, Xaa};
use crate::report::join_path;

/// The settings of a token exchange; `path` is the path of the section `tokenExchange`.
pub(super) fn token_exchange(
    file: TokenExchange,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<Strategy> {
    let TokenExchange {
        token_url,
        client_id,
        client_secret,
        client_secret_env,
        audience,
        scopes,
        subject_token_type,
        subject_provider_name,
    } = file;
    let before = findings.problems.len();
    refuse_upstream(subject_provider_name.as_deref(), "subjectProviderName", path, findings);
    let keys = AccountKeys { id: "clientId", secret: "clientSecret", variable: "clientSecretEnv" };
    let account = account(&keys, (client_id, client_secret, client_secret_env), path, findings);
    let policy = TokenUrl::parse("tokenUrl", &token_url, false)
        .and_then(|url| {
            let policy = TokenExchangePolicy::new(url).with_scopes(scopes)?;
            let policy = apply_optional(policy, audience.as_deref(), TokenExchangePolicy::with_audience)?;
            apply_optional(
                policy,
                subject_token_type.as_deref(),
                TokenExchangePolicy::with_subject_token_type,
            )
        })
        .map_err(|error| report_policy_error(&error, path, findings))
        .ok();
    let policy = policy.filter(|_| findings.problems.len() == before)?;
    Some(Strategy::TokenExchange(match account {
        Some(account) => policy.with_client(account),
        None => policy,
    }))
}

/// The settings of cross-app access; `path` is the path of the section `xaa`.
pub(super) fn xaa(file: Xaa, path: &str, findings: &mut Findings<'_>) -> Option<Strategy> {
    let Xaa {
        idp_token_url,
        idp_client_id,
        idp_client_secret,
        idp_client_secret_env,
        target_token_url,
        insecure_target_token_url,
        target_client_id,
        target_client_secret,
        target_client_secret_env,
        target_audience,
        target_resource,
        scopes,
        subject_provider_name,
        subject_token_type,
    } = file;
    let before = findings.problems.len();
    refuse_upstream(subject_provider_name.as_deref(), "subjectProviderName", path, findings);
    let keys = AccountKeys { id: "idpClientId", secret: "idpClientSecret", variable: "idpClientSecretEnv" };
    let idp = account(&keys, (idp_client_id, idp_client_secret, idp_client_secret_env), path, findings);
    let keys =
        AccountKeys { id: "targetClientId", secret: "targetClientSecret", variable: "targetClientSecretEnv" };
    let target_keys = (target_client_id, target_client_secret, target_client_secret_env);
    let target = account(&keys, target_keys, path, findings);
    let insecure = insecure_target_token_url == Some(true);
    let policy = TokenUrl::parse("idpTokenUrl", &idp_token_url, false)
        .and_then(|idp_url| {
            let target_url = TokenUrl::parse("targetTokenUrl", &target_token_url, insecure)?;
            if target_url.is_cleartext() {
                let text =
                    "tokens and secrets travel readable: the address is neither https nor on this machine";
                findings.add_warning(join_path(path, "targetTokenUrl"), text);
            }
            let policy = XaaPolicy::new(idp_url, target_url, &target_audience)?.with_scopes(scopes)?;
            let policy = apply_optional(policy, target_resource.as_deref(), XaaPolicy::with_resource)?;
            apply_optional(policy, subject_token_type.as_deref(), XaaPolicy::with_subject_token_type)
        })
        .map_err(|error| report_policy_error(&error, path, findings))
        .ok();
    let mut policy = policy.filter(|_| findings.problems.len() == before)?;
    if let Some(account) = idp {
        policy = policy.with_idp_client(account);
    }
    if let Some(account) = target {
        policy = policy.with_target_client(account);
    }
    Some(Strategy::Xaa(policy))
}

/// The settings of signatures with keys of AWS roles; `path` is the path of the section `awsSts`.
pub(super) fn aws_sts(file: AwsSts, path: &str, findings: &mut Findings<'_>) -> Option<Strategy> {
    let AwsSts {
        region,
        service,
        fallback_role_arn,
        role_mappings,
        role_claim,
        session_duration,
        session_name_claim,
        subject_provider_name,
    } = file;
    let before = findings.problems.len();
    refuse_upstream(subject_provider_name.as_deref(), "subjectProviderName", path, findings);
    let mappings = role_mappings.into_iter().enumerate().filter_map(|(index, mapping)| {
        role_mapping(mapping, &format!("{path}.roleMappings[{index}]"), findings)
    });
    let mappings: Vec<RoleMapping> = mappings.collect();
    if findings.problems.len() > before {
        return None;
    }
    let policy =
        Roles::new(role_claim.as_deref(), mappings, fallback_role_arn.as_deref()).and_then(|roles| {
            let policy = AwsStsPolicy::new(&region, roles)?;
            let policy = apply_optional(policy, service.as_deref(), AwsStsPolicy::with_service)?;
            let policy =
                apply_optional(policy, session_name_claim.as_deref(), AwsStsPolicy::with_session_name_claim)?;
            apply_optional(policy, session_duration, AwsStsPolicy::with_session_seconds)
        });
    policy.map_err(|error| report_policy_error(&error, path, findings)).ok().map(Strategy::AwsSts)
}

fn role_mapping(file: FileMapping, path: &str, findings: &mut Findings<'_>) -> Option<RoleMapping> {
    let FileMapping { claim, matcher, role_arn, priority } = file;
    let who = match (claim, matcher) {
        (Some(claim), None) => RoleMatch::Claim(claim),
        (None, Some(matcher)) => RoleMatch::Cel(matcher),
        (Some(_), Some(_)) | (None, None) => {
            findings.add_problem(path, "needs `claim` or `matcher`, and not both");
            return None;
        }
    };
    Some(RoleMapping { condition: who, role_arn, priority })
}

/// Reports why `obo` or `upstream_inject` cannot be used: the gateway has no source for their tokens.
pub(super) fn report_unsupported(kind: StrategyKind, path: &str, findings: &mut Findings<'_>) {
    let error =
        if kind == StrategyKind::Obo { PolicyError::no_obo() } else { PolicyError::no_upstream_inject() };
    report_policy_error(&error, path, findings);
}

fn apply_optional<P, V>(
    policy: P,
    value: Option<V>,
    with: impl FnOnce(P, V) -> Result<P, PolicyError>,
) -> Result<P, PolicyError> {
    match value {
        Some(value) => with(policy, value),
        None => Ok(policy),
    }
}

fn refuse_upstream(name: Option<&str>, key: &'static str, path: &str, findings: &mut Findings<'_>) {
    if name.is_some_and(|name| !name.is_empty()) {
        report_policy_error(&PolicyError::no_upstream(key), path, findings);
    }
}

/// The names of the config keys of one OAuth client.
struct AccountKeys {
    id: &'static str,
    secret: &'static str,
    variable: &'static str,
}

/// The gateway's OAuth client at an issuer. Its secret comes from the file or from an environment variable.
fn account(
    keys: &AccountKeys,
    (id, secret, variable): (Option<String>, Option<String>, Option<String>),
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<OAuthClient> {
    let secret = match (secret, variable) {
        (Some(_), Some(_)) => {
            let message = format!("only one of `{}` and `{}` may be set", keys.secret, keys.variable);
            findings.add_problem(path, message);
            return None;
        }
        (Some(secret), None) => Some(secret),
        (None, None) => None,
        (None, Some(variable)) => match (findings.env)(&variable).filter(|value| !value.is_empty()) {
            Some(value) => Some(value),
            None => {
                let message = format!("the environment variable `{variable}` is not set or empty");
                findings.add_problem(join_path(path, keys.variable), message);
                return None;
            }
        },
    };
    let Some(id) = id else {
        if secret.is_some() {
            findings.add_problem(join_path(path, keys.id), "is required with a client secret");
        }
        return None;
    };
    let secret = secret.map(Secret::new);
    let account = OAuthClient::new(keys.id, &id, keys.secret, secret.as_ref());
    account.map_err(|error| report_policy_error(&error, path, findings)).ok()
}

fn report_policy_error(error: &PolicyError, path: &str, findings: &mut Findings<'_>) {
    findings.add_problem(join_path(path, error.field()), error.why());
}
