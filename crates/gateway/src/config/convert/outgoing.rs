//! `outgoingAuth` and `backends[].headers`: the headers that prove the gateway to its backends.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use vmcp_backends::policy::Secret;

use super::Findings;
use crate::config::file::{AuthSource, AuthStrategy, HeaderInjection, OutgoingAuth, StrategyKind};
use crate::config::report::{Problem, join};

/// The header each backend gets, by its strategy.
pub(super) struct Outgoing {
    default: Option<Header>,
    default_is_used: bool,
    backends: BTreeMap<String, Option<Header>>,
}

/// A header and the path of the key that asks for it.
#[derive(Clone)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: Secret,
    pub(super) path: String,
}

impl Outgoing {
    pub(super) fn convert(file: OutgoingAuth, names: &[String], findings: &mut Findings<'_>) -> Self {
        let OutgoingAuth { source, default, backends } = file;
        if source == Some(AuthSource::Discovered) {
            let message = "reading strategies from Kubernetes objects is not possible in this build";
            findings.add(Problem::new("outgoingAuth.source", message).hint("use `inline`"));
        }
        let default =
            default.and_then(|strategy| convert_strategy(strategy, "outgoingAuth.default", findings));
        let mut outgoing = Self { default, default_is_used: false, backends: BTreeMap::new() };
        for (name, strategy) in backends {
            let path = join("outgoingAuth.backends", &name);
            findings.backend(&path, &name, names);
            let header = convert_strategy(strategy, &path, findings);
            outgoing.backends.insert(name, header);
        }
        outgoing
    }

    /// The header of an HTTP backend: its own strategy's, else the default's.
    pub(super) fn http(&mut self, name: &str) -> Option<Header> {
        match self.backends.remove(name) {
            Some(own) => own,
            None => {
                self.default_is_used = true;
                self.default.clone()
            }
        }
    }

    /// Says so when no backend got the default's header.
    pub(super) fn finish(self, findings: &mut Findings<'_>) {
        if let Some(header) = self.default.filter(|_| !self.default_is_used) {
            findings.warn(header.path, "has no effect: no HTTP backend is without a strategy of its own");
        }
    }

    /// A stdio backend has no headers, so a strategy of its own would have no effect.
    pub(super) fn stdio(&mut self, name: &str, findings: &mut Findings<'_>) {
        if let Some(Some(header)) = self.backends.remove(name) {
            findings.problem(header.path, format!("`{name}` is a stdio server and takes no headers")).hint =
                Some("pass the secret in its `env`".to_owned());
        }
    }
}

fn convert_strategy(file: AuthStrategy, path: &str, findings: &mut Findings<'_>) -> Option<Header> {
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
            findings.add(Problem::new(join(path, key), message).hint(hint));
        }
    }
    match kind {
        StrategyKind::Unauthenticated => None,
        StrategyKind::HeaderInjection => {
            let path = join(path, "headerInjection");
            match header_injection {
                Some(injection) => convert_injection(injection, path, findings),
                None => {
                    findings.problem(path, "is required with `type: header_injection`");
                    None
                }
            }
        }
        StrategyKind::TokenExchange
        | StrategyKind::UpstreamInject
        | StrategyKind::AwsSts
        | StrategyKind::Obo
        | StrategyKind::Xaa => {
            let message = format!("this build does not have the strategy `{}` yet", kind.as_str());
            let hint = "use `header_injection` or `unauthenticated`";
            findings.add(Problem::new(join(path, "type"), message).hint(hint));
            None
        }
    }
}

fn convert_injection(file: HeaderInjection, path: String, findings: &mut Findings<'_>) -> Option<Header> {
    let HeaderInjection { header_name, header_value, header_value_env } = file;
    let (value, value_path) = match (header_value, header_value_env) {
        (Some(_), Some(_)) => {
            findings.problem(path, "only one of `headerValue` and `headerValueEnv` may be set");
            return None;
        }
        (None, None) => {
            findings.problem(path, "needs `headerValue` or `headerValueEnv`");
            return None;
        }
        (Some(value), None) => (value, join(&path, "headerValue")),
        (None, Some(variable)) => {
            let value_path = join(&path, "headerValueEnv");
            match (findings.env)(&variable).filter(|value| !value.is_empty()) {
                Some(value) => (value, value_path),
                None => {
                    let message = format!("the environment variable `{variable}` is not set or empty");
                    findings.problem(value_path, message);
                    return None;
                }
            }
        }
    };
    let name = header_name_of(&header_name, &join(&path, "headerName"), findings);
    let value = header_value_of(value, &value_path, findings);
    Some(Header { name: name?, value: value?, path })
}

/// Headers that the transport writes itself, or that change how a message is read or routed.
const OWN: [&str; 17] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "http2-settings",
    "keep-alive",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether the gateway writes this header itself.
pub(super) fn is_own(name: &str) -> bool {
    OWN.contains(&name)
}

/// A header's name in lower case, if it may be set for a backend.
pub(super) fn header_name_of(name: &str, path: &str, findings: &mut Findings<'_>) -> Option<String> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        findings.problem(path, format!("`{name}` is not a header name"));
        return None;
    };
    if is_own(parsed.as_str()) {
        findings.problem(path, format!("the header `{parsed}` is written by the gateway itself"));
        return None;
    }
    Some(parsed.as_str().to_owned())
}

/// A header's value; it may be a secret, so messages do not repeat it.
pub(super) fn header_value_of(value: String, path: &str, findings: &mut Findings<'_>) -> Option<Secret> {
    if value.is_empty() {
        findings.problem(path, "must not be empty");
        return None;
    }
    if value.trim() != value || HeaderValue::from_str(&value).is_err() {
        findings.problem(
            path,
            "cannot be sent as a header: it has a line break or another control character, or a blank at an end",
        );
        return None;
    }
    Some(Secret::new(value))
}
