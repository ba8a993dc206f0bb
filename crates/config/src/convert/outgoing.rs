//! Converts `outgoingAuth`: the credentials that the gateway sends to backends. Also checks the names and
//! values of headers, for `backends[].headers`.

mod exchange;

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use vmcp_backends::policy::Secret;
use vmcp_credentials::Strategy;
use vmcp_http_client::is_owned_header;

use super::Findings;
use crate::file::{AuthSource, AuthStrategy, HeaderInjection, OutgoingAuth, StrategyKind};
use crate::report::{Problem, join_path};

/// The credential of each backend, by its strategy.
pub(super) struct Outgoing {
    default: Option<OutgoingCredential>,
    is_default_used: bool,
    backends: BTreeMap<String, Option<OutgoingCredential>>,
}

/// The credential that a backend receives.
#[derive(Clone)]
pub(super) enum OutgoingCredential {
    /// The same header with every request.
    Header(Header),
    /// A credential of each caller, and the path of the strategy that asks for it.
    Exchanged(Box<Strategy>, String),
}

impl OutgoingCredential {
    fn path(&self) -> &str {
        match self {
            Self::Header(header) => &header.path,
            Self::Exchanged(_, path) => path,
        }
    }
}

/// A header, and the path of the section that asks for it.
#[derive(Clone)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: Secret,
    pub(super) path: String,
}

impl Outgoing {
    /// Converts the section. `has_tokens` is true if callers present tokens that an issuer can exchange.
    pub(super) fn convert(
        file: OutgoingAuth,
        names: &[String],
        has_tokens: bool,
        findings: &mut Findings<'_>,
    ) -> Self {
        let OutgoingAuth { source, default, backends } = file;
        if source == Some(AuthSource::Discovered) {
            let message = "reading strategies from Kubernetes objects is not possible in this build";
            findings.push(Problem::new("outgoingAuth.source", message).with_hint("use `inline`"));
        }
        let strategies = StrategyConverter { has_tokens };
        let default =
            default.and_then(|strategy| strategies.convert(strategy, "outgoingAuth.default", findings));
        let mut outgoing = Self { default, is_default_used: false, backends: BTreeMap::new() };
        for (name, strategy) in backends {
            let path = join_path("outgoingAuth.backends", &name);
            findings.check_backend_name(&path, &name, names);
            let credential = strategies.convert(strategy, &path, findings);
            outgoing.backends.insert(name, credential);
        }
        outgoing
    }

    /// The credential of an HTTP backend: by its own strategy, else by the default.
    pub(super) fn credential_for_http(&mut self, name: &str) -> Option<OutgoingCredential> {
        match self.backends.remove(name) {
            Some(own) => own,
            None => {
                self.is_default_used = true;
                self.default.clone()
            }
        }
    }

    /// Warns if the default applies to no backend.
    pub(super) fn warn_if_default_unused(self, findings: &mut Findings<'_>) {
        if let Some(credential) = self.default.filter(|_| !self.is_default_used) {
            findings.add_warning(
                credential.path(),
                "has no effect: no HTTP backend is without a strategy of its own",
            );
        }
    }

    /// Reports a strategy of a stdio backend. Such a backend has no headers, so the strategy would have no
    /// effect.
    pub(super) fn reject_for_stdio(&mut self, name: &str, findings: &mut Findings<'_>) {
        if let Some(Some(credential)) = self.backends.remove(name) {
            let problem = findings
                .add_problem(credential.path(), format!("`{name}` is a stdio server and takes no headers"));
            problem.hint = Some("pass the secret in its `env`".to_owned());
        }
    }
}

/// Converts the strategies of one file.
struct StrategyConverter {
    has_tokens: bool,
}

impl StrategyConverter {
    fn convert(
        &self,
        file: AuthStrategy,
        path: &str,
        findings: &mut Findings<'_>,
    ) -> Option<OutgoingCredential> {
        let kind = file.kind;
        let strategy = match parse_strategy(file, path, findings)? {
            ParsedStrategy::Header(header) => return Some(OutgoingCredential::Header(header)),
            ParsedStrategy::Exchange(strategy) => strategy,
        };
        if !self.has_tokens {
            let message = format!("`{}` exchanges the callers' tokens, and callers show none", kind.as_str());
            findings.add_problem(join_path(path, "type"), message).hint =
                Some("write `incomingAuth` with `type: oidc`".to_owned());
            return None;
        }
        Some(OutgoingCredential::Exchanged(strategy, path.to_owned()))
    }
}

/// A strategy as it is read: a fixed header, or an exchange.
enum ParsedStrategy {
    Header(Header),
    Exchange(Box<Strategy>),
}

fn parse_strategy(file: AuthStrategy, path: &str, findings: &mut Findings<'_>) -> Option<ParsedStrategy> {
    let AuthStrategy { kind, header_injection, token_exchange, upstream_inject, aws_sts, obo, xaa } = file;
    for (key, owner, set) in [
        ("headerInjection", StrategyKind::HeaderInjection, header_injection.is_some()),
        ("tokenExchange", StrategyKind::TokenExchange, token_exchange.is_some()),
        ("upstreamInject", StrategyKind::UpstreamInject, upstream_inject.is_some()),
        ("awsSts", StrategyKind::AwsSts, aws_sts.is_some()),
        ("obo", StrategyKind::Obo, obo.is_some()),
        ("xaa", StrategyKind::Xaa, xaa.is_some()),
    ] {
        if set && owner != kind {
            let message = format!("has no effect with `type: {}`", kind.as_str());
            let hint = format!("remove it, or write `type: {}`", owner.as_str());
            findings.push(Problem::new(join_path(path, key), message).with_hint(hint));
        }
    }
    match kind {
        StrategyKind::Unauthenticated => None,
        StrategyKind::HeaderInjection => {
            let (injection, path) =
                require_section(header_injection, "headerInjection", kind, path, findings)?;
            convert_injection(injection, path, findings).map(ParsedStrategy::Header)
        }
        StrategyKind::TokenExchange => {
            let (file, path) = require_section(token_exchange, "tokenExchange", kind, path, findings)?;
            exchange::token_exchange(file, &path, findings).map(Box::new).map(ParsedStrategy::Exchange)
        }
        StrategyKind::AwsSts => {
            let (file, path) = require_section(aws_sts, "awsSts", kind, path, findings)?;
            exchange::aws_sts(file, &path, findings).map(Box::new).map(ParsedStrategy::Exchange)
        }
        StrategyKind::Xaa => {
            let (file, path) = require_section(xaa, "xaa", kind, path, findings)?;
            exchange::xaa(file, &path, findings).map(Box::new).map(ParsedStrategy::Exchange)
        }
        StrategyKind::UpstreamInject | StrategyKind::Obo => {
            exchange::report_unsupported(kind, path, findings);
            None
        }
    }
}

/// The section that a strategy requires, with its path. A missing section is a problem.
fn require_section<T>(
    section: Option<T>,
    key: &str,
    kind: StrategyKind,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<(T, String)> {
    let path = join_path(path, key);
    if section.is_none() {
        findings.add_problem(path.as_str(), format!("is required with `type: {}`", kind.as_str()));
    }
    section.map(|section| (section, path))
}

fn convert_injection(file: HeaderInjection, path: String, findings: &mut Findings<'_>) -> Option<Header> {
    let HeaderInjection { header_name, header_value, header_value_env } = file;
    let (value, value_path) = match (header_value, header_value_env) {
        (Some(_), Some(_)) => {
            findings.add_problem(path, "only one of `headerValue` and `headerValueEnv` may be set");
            return None;
        }
        (None, None) => {
            findings.add_problem(path, "needs `headerValue` or `headerValueEnv`");
            return None;
        }
        (Some(value), None) => (value, join_path(&path, "headerValue")),
        (None, Some(variable)) => {
            let value_path = join_path(&path, "headerValueEnv");
            match (findings.env)(&variable).filter(|value| !value.is_empty()) {
                Some(value) => (value, value_path),
                None => {
                    let message = format!("the environment variable `{variable}` is not set or empty");
                    findings.add_problem(value_path, message);
                    return None;
                }
            }
        }
    };
    let name = header_name_of(&header_name, &join_path(&path, "headerName"), findings);
    let value = header_value_of(value, &value_path, findings);
    Some(Header { name: name?, value: value?, path })
}

/// The name of a header in lower case, or a problem if it must not be set for a backend.
pub(super) fn header_name_of(name: &str, path: &str, findings: &mut Findings<'_>) -> Option<String> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        findings.add_problem(path, format!("`{name}` is not a header name"));
        return None;
    };
    if is_owned_header(parsed.as_str()) {
        findings.add_problem(path, format!("the header `{parsed}` is written by the gateway itself"));
        return None;
    }
    Some(parsed.as_str().to_owned())
}

/// The value of a header. It may be a secret, so messages do not repeat it.
pub(super) fn header_value_of(value: String, path: &str, findings: &mut Findings<'_>) -> Option<Secret> {
    if value.is_empty() {
        findings.add_problem(path, "must not be empty");
        return None;
    }
    if value.trim() != value || HeaderValue::from_str(&value).is_err() {
        findings.add_problem(
            path,
            "cannot be sent as a header: it has a line break or another control character, or a blank at an end",
        );
        return None;
    }
    Some(Secret::new(value))
}
