//! Converts `incomingAuth`: how callers are authenticated, and the policies that say what they may do.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vmcp_authz::{AuthzPolicy, PolicySource};
use vmcp_domain::Identity;

use vmcp_http_client::TlsError;
use vmcp_identity::policy::{OidcPolicy, OidcSettings, Secret, SettingError};
use vmcp_identity::{API_KEY_ISSUER, BearerPolicy, SetupError};
use vmcp_json::{Json, Members};

use super::Findings;
use crate::file::{ApiKey, Authz, AuthzKind, IncomingAuth, IncomingKind, Oidc};
use crate::report::{Problem, ProblemCode, item_path, join_path};
use crate::settings::{OptimizerSettings, Overrides};

/// How callers are authenticated; the authenticator is started later.
type Incoming = vmcp_edge::policy::IncomingAuth<BearerPolicy>;

const PATH: &str = "incomingAuth";
/// The issuer of the operating-system user with `type: local`, and the default issuer of commands if callers
/// are anonymous.
const LOCAL: &str = "local";

/// True if callers present tokens of an OIDC issuer, which can be exchanged for others.
pub(super) fn has_tokens(auth: Option<&IncomingAuth>) -> bool {
    auth.is_some_and(|auth| auth.kind == IncomingKind::Oidc)
}

/// The issuer of callers: that of tokens, `vmcp:api-key` if there are only API keys, else `local`.
pub(super) fn caller_issuer(auth: Option<&IncomingAuth>) -> String {
    match auth {
        Some(IncomingAuth { kind: IncomingKind::Oidc, oidc: Some(oidc), .. }) => oidc.issuer.clone(),
        Some(IncomingAuth { kind: IncomingKind::ApiKey, .. }) => API_KEY_ISSUER.to_owned(),
        Some(_) | None => LOCAL.to_owned(),
    }
}
/// The variable with the client secret if `clientSecretEnv` is left out, the same as in ToolHive.
const SECRET_VARIABLE: &str = "TOOLHIVE_OIDC_CLIENT_SECRET";

/// Whether the listener can be reached from other machines.
pub(super) struct ListenScope<'a> {
    /// True if only this machine can reach the listener.
    pub(super) is_loopback_only: bool,
    /// The path of the key, or the name of the flag, that sets the address.
    pub(super) path: &'a str,
}

impl<'a> ListenScope<'a> {
    /// The scope of a listener on this address. `None` is an address that is reported as wrong elsewhere; it
    /// counts as loopback, so that it causes no second problem.
    pub(super) fn for_address(address: Option<IpAddr>, path: &'a str) -> Self {
        Self { is_loopback_only: address.is_none_or(|address| address.is_loopback()), path }
    }
}

/// How callers are authenticated; `None` after a problem.
pub(super) fn convert(
    file: Option<&IncomingAuth>,
    name: &str,
    listen_scope: &ListenScope<'_>,
    overrides: &Overrides,
    findings: &mut Findings<'_>,
) -> Option<Incoming> {
    let Some(auth) = file else {
        if !listen_scope.is_loopback_only {
            let message = "listening beyond this machine needs `incomingAuth`";
            let hint = "write `incomingAuth: {type: anonymous}` if anybody may call";
            findings.push(Problem::new(listen_scope.path, message).with_hint(hint));
            return None;
        }
        return Some(Incoming::Anonymous);
    };
    let IncomingAuth { kind, oidc, api_keys, authz: _ } = auth;
    if oidc.is_some() && *kind != IncomingKind::Oidc {
        findings.add_warning("incomingAuth.oidc", "has no effect without `type: oidc`");
    }
    match kind {
        IncomingKind::Anonymous | IncomingKind::Local => {
            if !api_keys.is_empty() {
                let message = "cannot be required where callers present no token";
                findings.add_problem("incomingAuth.apiKeys", message).hint =
                    Some("use `type: apiKey`, or `type: oidc`".to_owned());
            }
            if *kind == IncomingKind::Anonymous {
                Some(Incoming::Anonymous)
            } else {
                local_auth(listen_scope, overrides, findings)
            }
        }
        IncomingKind::ApiKey => bearer_auth(name, None, api_keys, findings),
        IncomingKind::Oidc => {
            let Some(oidc) = oidc else {
                findings.add_problem("incomingAuth.oidc", "is missing").hint =
                    Some("name the issuer and the audience".to_owned());
                return None;
            };
            let policy = oidc_policy(oidc.clone(), findings)?;
            bearer_auth(name, Some(policy), api_keys, findings)
        }
    }
}

fn local_auth(
    listen_scope: &ListenScope<'_>,
    overrides: &Overrides,
    findings: &mut Findings<'_>,
) -> Option<Incoming> {
    let Some(user) = &overrides.user else {
        findings.add_problem("incomingAuth.type", "the name of the user who runs the gateway is not known");
        return None;
    };
    if !listen_scope.is_loopback_only {
        let message = format!("every caller who reaches the port counts as the user `{user}`");
        findings.add_warning("incomingAuth.type", message);
    }
    Some(Incoming::Local(Arc::new(Identity {
        issuer: LOCAL.to_owned(),
        subject: user.clone(),
        claims: Members::new(),
    })))
}

fn oidc_policy(file: Oidc, findings: &mut Findings<'_>) -> Option<OidcPolicy> {
    let Oidc {
        issuer,
        audience,
        client_id,
        client_secret_env,
        resource,
        jwks_url,
        introspection_url,
        scopes,
        protected_resource_allow_private_ip,
        jwks_allow_private_ip,
        insecure_allow_http,
        ca_bundle_path,
        algorithms,
        leeway,
    } = file;
    let client_secret = match client_secret_env {
        None => (findings.env)(SECRET_VARIABLE).filter(|secret| !secret.is_empty()),
        Some(variable) => {
            let secret = (findings.env)(&variable).filter(|secret| !secret.is_empty());
            if secret.is_none() {
                let (path, not_set) =
                    ("incomingAuth.oidc.clientSecretEnv", format!("the variable `{variable}` is not set"));
                // Signed tokens are checked without the secret, so only introspection makes it a problem.
                if introspection_url.is_some() {
                    findings.add_problem(path, not_set);
                } else {
                    findings.add_warning(path, format!("{not_set}; opaque tokens would need it"));
                }
            }
            secret
        }
    };
    if ca_bundle_path.as_ref().is_some_and(|path| !Path::new(path).is_absolute()) {
        findings.add_problem("incomingAuth.oidc.caBundlePath", "must be an absolute path");
    }
    let defaults = OidcSettings::new(issuer, audience);
    let settings = OidcSettings {
        jwks_url,
        introspection_url,
        // Without a client id nothing uses the secret. Dropping it avoids the error that the client id is
        // missing.
        client_secret: client_secret.filter(|_| client_id.is_some()).map(Secret::new),
        client_id,
        required_scopes: scopes,
        algorithms,
        leeway: leeway.map_or(defaults.leeway, |leeway| leeway.0),
        allow_private_addresses: [protected_resource_allow_private_ip, jwks_allow_private_ip]
            .contains(&Some(true)),
        allow_http: insecure_allow_http == Some(true),
        ca_bundle: ca_bundle_path.map(PathBuf::from),
        resource,
        ..defaults
    };
    match OidcPolicy::new(settings) {
        Ok(policy) => Some(policy),
        Err(flaws) => {
            for flaw in flaws {
                findings.add_problem(config_key_of(&flaw), flaw.message);
            }
            None
        }
    }
}

/// The path of the config key that a setting of `vmcp_identity` comes from.
fn config_key_of(flaw: &SettingError) -> String {
    let key = match flaw.setting {
        "audiences" => "audience",
        "jwks_url" => "jwksUrl",
        "introspection_url" => "introspectionUrl",
        "client_id" => "clientId",
        "required_scopes" => "scopes",
        "ca_bundle" => "caBundlePath",
        same => same,
    };
    format!("{PATH}.oidc.{key}")
}

fn bearer_auth(
    name: &str,
    policy: Option<OidcPolicy>,
    keys: &[ApiKey],
    findings: &mut Findings<'_>,
) -> Option<Incoming> {
    let keys: Vec<vmcp_identity::ApiKey> = keys.iter().map(api_key).collect();
    match BearerPolicy::new(name, policy, keys) {
        Ok(policy) => Some(Incoming::Bearer(policy)),
        Err(error) => {
            let (key, text) = match error {
                SetupError::NoCredentials => {
                    ("apiKeys", "the list is empty, so every request would be refused".to_owned())
                }
                SetupError::ApiKeys(flaws) => {
                    for flaw in flaws {
                        findings.add_problem(join_path(PATH, "apiKeys"), flaw.message);
                    }
                    return None;
                }
                SetupError::Tls(TlsError::Bundle(text)) => {
                    ("oidc.caBundlePath", format!("cannot be used: {text}"))
                }
                SetupError::Tls(TlsError::Setup(text)) => {
                    ("oidc", format!("the gateway has no TLS yet: {text}"))
                }
            };
            findings.add_problem(format!("{PATH}.{key}"), text);
            None
        }
    }
}

fn api_key(file: &ApiKey) -> vmcp_identity::ApiKey {
    let ApiKey { name, hash, scopes, claims, expires } = file;
    let claims = Json::encode(claims).ok().and_then(|json| json.members().ok());
    vmcp_identity::ApiKey {
        name: name.clone(),
        hash: hash.clone(),
        scopes: scopes.clone(),
        claims: claims.unwrap_or_default(),
        expires_unix_s: *expires,
    }
}

/// Warns about policies that name an API key by its name alone: they also apply to a user of the issuer with
/// the same subject.
fn warn_of_shared_names(auth: &IncomingAuth, policies: &[String], findings: &mut Findings<'_>) {
    if auth.kind != IncomingKind::Oidc {
        return;
    }
    for key in &auth.api_keys {
        let named = format!("Client::{}", Json::string(&key.name).as_str());
        for (index, policy) in policies.iter().enumerate() {
            if policy.contains(&named) && !policy.contains("claim_iss") {
                let path = item_path(&format!("{PATH}.authz.policies"), index);
                let message =
                    format!("`{named}` is the API key and every user of the issuer with this subject");
                let hint = "add `when { principal.claim_iss == \"vmcp:api-key\" }`, or the issuer's";
                let warning = Problem::new(path, message).with_code(ProblemCode::Warning);
                findings.warnings.push(warning.with_hint(hint));
            }
        }
    }
}

/// The policies; `None` if there are none. The virtual tools of the optimizer are exempt from them.
pub(super) fn authz(
    file: Option<&IncomingAuth>,
    (name, backend_names): (&str, &[String]),
    optimizer: Option<&OptimizerSettings>,
    findings: &mut Findings<'_>,
) -> Option<Arc<AuthzPolicy>> {
    let Authz {
        kind,
        policies,
        entities_json,
        primary_upstream_provider,
        group_claim_name,
        role_claim_name,
        group_entity_type,
    } = file?.authz.as_ref()?;
    let path = |key: &str| format!("{PATH}.authz.{key}");
    if *kind == AuthzKind::None {
        if !policies.is_empty() {
            findings.add_problem(path("policies"), "would not be asked with `type: none`").hint =
                Some("use `type: cedar`, or leave the policies out".to_owned());
        }
        return None;
    }
    if primary_upstream_provider.is_some() {
        let message = "names a provider of an embedded authorization server, which this build does not have";
        findings.add_problem(path("primaryUpstreamProvider"), message).hint = Some("leave it out".to_owned());
    }
    warn_of_shared_names(file?, policies, findings);
    let source = PolicySource {
        policies: policies.clone(),
        entities_json: entities_json.clone().unwrap_or_default(),
        server_name: name.to_owned(),
        backend_names: backend_names.to_vec(),
        group_claim_name: group_claim_name.clone(),
        role_claim_name: role_claim_name.clone(),
        group_entity_type: group_entity_type.clone(),
        exempt_tools: optimizer.map_or_else(Vec::new, OptimizerSettings::virtual_tools),
    };
    let to_problem = |problem: &vmcp_authz::AuthzProblem| {
        let (location, rest) = problem.location.split_once(' ').unwrap_or((&problem.location, ""));
        let key = match location.split_once('[') {
            Some(("entities", number)) => format!("entitiesJson[{number}"),
            Some(_) | None if location == "entities" => "entitiesJson".to_owned(),
            Some(_) | None => location.to_owned(),
        };
        let text =
            if rest.is_empty() { problem.message.clone() } else { format!("{rest}: {}", problem.message) };
        let found = Problem::new(path(&key), text);
        match &problem.hint {
            Some(hint) => found.with_hint(hint),
            None => found,
        }
    };
    match AuthzPolicy::build(&source) {
        Ok(policy) => {
            findings.warnings.extend(policy.warnings().iter().map(to_problem));
            Some(Arc::new(policy))
        }
        Err(problems) => {
            findings.problems.extend(problems.iter().map(to_problem));
            None
        }
    }
}
