//! Converts `backends` and `operational.timeouts`: the transport, the credential and the time-outs of each
//! backend.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use vmcp_backends::policy::{
    BackendPolicy, CallerBounds, HttpPolicy, Isolation, Secret, Timeouts, Transport,
};
use vmcp_credentials::Strategy;
use vmcp_domain::BackendId;

use super::Findings;
use super::isolation::ConvertedBackend;
use super::outgoing::{Outgoing, OutgoingCredential, header_name_of, header_value_of};
use super::stdio::StdioKeys;
use crate::file::{Backend, BackendKind, BackendTransport, CallTimeouts, GoDuration, OutgoingAuth};
use crate::report::{item_path, join_path};

/// The time-outs of calls from `operational.timeouts`.
struct CallTimeoutSettings {
    default: Duration,
    max: Duration,
    backends: BTreeMap<String, Duration>,
}

impl CallTimeoutSettings {
    fn convert(file: CallTimeouts, names: &[String], findings: &mut Findings<'_>) -> Self {
        let CallTimeouts { default, max, per_workload } = file;
        let path = "operational.timeouts";
        let default =
            default.and_then(|default| findings.require_positive(&join_path(path, "default"), default));
        let max = max.and_then(|max| findings.require_positive(&join_path(path, "max"), max));
        let mut backends = BTreeMap::new();
        for (name, timeout) in per_workload {
            let path = join_path(&join_path(path, "perWorkload"), &name);
            findings.check_backend_name(&path, &name, names);
            if let Some(timeout) = findings.require_positive(&path, timeout) {
                backends.insert(name, timeout);
            }
        }
        Self {
            default: default.unwrap_or(Timeouts::DEFAULT.call),
            max: max.unwrap_or(Timeouts::DEFAULT.call_max),
            backends,
        }
    }

    fn for_backend(
        &self,
        name: &str,
        (own_timeout, start_timeout): (Option<GoDuration>, Option<GoDuration>),
        path: &str,
        findings: &mut Findings<'_>,
    ) -> Timeouts {
        let start_timeout = start_timeout.and_then(|start_timeout| {
            findings.require_positive(&join_path(path, "startTimeout"), start_timeout)
        });
        let path = &join_path(path, "timeout");
        let per_workload = self.backends.get(name).copied();
        if own_timeout.is_some() && per_workload.is_some() {
            findings
                .add_problem(
                    path,
                    format!("`operational.timeouts.perWorkload` has a timeout for `{name}` too"),
                )
                .hint = Some("keep one of them".to_owned());
        }
        let own_timeout = own_timeout.and_then(|own_timeout| findings.require_positive(path, own_timeout));
        Timeouts {
            connect: start_timeout.unwrap_or(Timeouts::DEFAULT.connect),
            start: start_timeout.unwrap_or(Timeouts::DEFAULT.start),
            call: own_timeout.or(per_workload).unwrap_or(self.default),
            call_max: self.max,
        }
    }
}

/// The policies of all backends, with their credentials and time-outs. `has_tokens` is true if callers
/// present tokens that can be exchanged.
pub(super) fn convert_all(
    (backends, names): (Vec<Backend>, &[String]),
    timeouts: CallTimeouts,
    (outgoing, has_tokens): (OutgoingAuth, bool),
    findings: &mut Findings<'_>,
) -> Vec<ConvertedBackend> {
    let calls = CallTimeoutSettings::convert(timeouts, names, findings);
    let mut outgoing = Outgoing::convert(outgoing, names, has_tokens, findings);
    let written = convert(backends, &calls, &mut outgoing, findings);
    outgoing.warn_if_default_unused(findings);
    written
}

/// The policies of all backends. A backend with a problem is reported and missing from the result.
fn convert(
    backends: Vec<Backend>,
    calls: &CallTimeoutSettings,
    outgoing: &mut Outgoing,
    findings: &mut Findings<'_>,
) -> Vec<ConvertedBackend> {
    let mut seen = BTreeSet::new();
    let mut policies = Vec::with_capacity(backends.len());
    for (index, backend) in backends.into_iter().enumerate() {
        let path = item_path("backends", index);
        check_name(&backend.name, &path, findings);
        if !backend.name.is_empty() && !seen.insert(backend.name.clone()) {
            let message = format!("another backend is called `{}` already", backend.name);
            findings.add_problem(join_path(&path, "name"), message);
            continue;
        }
        let isolation = backend.isolation;
        let policy = convert_one(backend, &path, calls, outgoing, findings);
        policies.extend(policy.map(|policy| ConvertedBackend { policy, path, isolation }));
    }
    policies
}

/// The longest name of a backend, in bytes. The name becomes part of tool names, which clients cut at 128
/// characters or less.
const NAME_BYTES_MAX: usize = 64;

fn check_name(name: &str, path: &str, findings: &mut Findings<'_>) {
    let path = join_path(path, "name");
    if name.trim().is_empty() {
        findings.add_problem(path, "must not be empty");
    } else if name.chars().any(char::is_control) {
        findings.add_problem(path, "must not contain control characters");
    } else if name.len() > NAME_BYTES_MAX {
        findings.add_problem(
            path,
            format!("must not be longer than {NAME_BYTES_MAX} bytes, but has {}", name.len()),
        );
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        findings.add_warning(
            path,
            "clients may refuse tool names that begin with it; letters, digits, `-`, `_` and `.` are safe",
        );
    }
}

fn convert_one(
    backend: Backend,
    path: &str,
    calls: &CallTimeoutSettings,
    outgoing: &mut Outgoing,
    findings: &mut Findings<'_>,
) -> Option<BackendPolicy> {
    let Backend {
        name,
        url,
        transport,
        kind,
        ca_bundle_path,
        metadata,
        command,
        args,
        env,
        inherit_env,
        cwd,
        headers,
        timeout,
        start_timeout,
        isolation: _,
    } = backend;
    if !metadata.is_empty() {
        findings.add_warning(join_path(path, "metadata"), "has no effect");
    }
    let timeouts = calls.for_backend(&name, (timeout, start_timeout), path, findings);
    let http = HttpKeys { url, kind, ca_bundle_path, headers };
    let stdio = StdioKeys { command, args, env, inherit_env, cwd };
    let is_open = transport.is_none();
    let (transport, (headers, credentials)) =
        match choose_transport(transport, &http, &stdio, path, findings)? {
            BackendTransport::Stdio => {
                outgoing.reject_for_stdio(&name, findings);
                (Transport::Stdio(stdio.convert(path, findings)?), (Vec::new(), None))
            }
            chosen @ (BackendTransport::StreamableHttp | BackendTransport::Sse) => {
                let (policy, authentication) = http.convert(&name, path, outgoing, findings);
                let policy = HttpPolicy { may_be_sse: is_open, ..policy? };
                let transport = match chosen {
                    BackendTransport::Sse => Transport::Sse(policy),
                    BackendTransport::StreamableHttp | BackendTransport::Stdio => {
                        Transport::StreamableHttp(policy)
                    }
                };
                (transport, authentication)
            }
        };
    Some(BackendPolicy {
        id: BackendId::from(name),
        transport,
        timeouts,
        headers,
        // `isolation::convert` sets the isolation later, when it is known how callers are authenticated.
        isolation: Isolation::Shared,
        caller_bounds: CallerBounds::DEFAULT,
        credentials,
    })
}

/// The fixed headers of an HTTP backend, and the source of each caller's credential.
type BackendAuthentication = (Vec<(String, Secret)>, Option<Strategy>);

/// The transport that the keys ask for. It is a problem if they ask for none, or for two.
fn choose_transport(
    written: Option<BackendTransport>,
    http: &HttpKeys,
    stdio: &StdioKeys,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<BackendTransport> {
    let chosen = match (written, http.url.is_some(), stdio.command.is_some()) {
        (_, false, false) => {
            let (key, is) = match written {
                Some(BackendTransport::Stdio) => ("command", "is required with `transport: stdio`"),
                Some(BackendTransport::Sse | BackendTransport::StreamableHttp) => ("url", "is required"),
                None => ("", "needs `url`, or `command` for a stdio server"),
            };
            let path = if key.is_empty() { path.to_owned() } else { join_path(path, key) };
            findings.add_problem(path, is);
            return None;
        }
        (None, true, true) => {
            findings.add_problem(path, "has both `url` and `command`").hint =
                Some("keep one of them".to_owned());
            return None;
        }
        (Some(written), _, _) => written,
        (None, true, false) => BackendTransport::StreamableHttp,
        (None, false, true) => BackendTransport::Stdio,
    };
    let (unused_keys, name) = match chosen {
        BackendTransport::Stdio => (http.keys(), "a stdio server"),
        BackendTransport::Sse | BackendTransport::StreamableHttp => (stdio.keys(), "a server with a `url`"),
    };
    for key in unused_keys {
        findings.add_problem(join_path(path, key), format!("has no effect on {name}"));
    }
    let complete = match chosen {
        BackendTransport::Stdio => stdio.command.is_some(),
        BackendTransport::Sse | BackendTransport::StreamableHttp => http.url.is_some(),
    };
    if !complete {
        let (key, hint) = match chosen {
            BackendTransport::Stdio => ("command", "a server with a `url` is `streamable-http` or `sse`"),
            BackendTransport::Sse | BackendTransport::StreamableHttp => {
                ("url", "a server with a `command` is `stdio`")
            }
        };
        findings.add_problem(join_path(path, key), "is required with this `transport`").hint =
            Some(hint.to_owned());
        return None;
    }
    Some(chosen)
}

struct HttpKeys {
    url: Option<String>,
    kind: Option<BackendKind>,
    ca_bundle_path: Option<String>,
    headers: BTreeMap<String, String>,
}

impl HttpKeys {
    fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("url", self.url.is_some()),
            ("type", self.kind.is_some()),
            ("caBundlePath", self.ca_bundle_path.is_some()),
            ("headers", !self.headers.is_empty()),
        ];
        keys.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }

    fn convert(
        self,
        name: &str,
        path: &str,
        outgoing: &mut Outgoing,
        findings: &mut Findings<'_>,
    ) -> (Option<HttpPolicy>, BackendAuthentication) {
        let Self {
            url,
            // ToolHive marks servers that it does not run with this key. The gateway starts none of these
            // servers in any case.
            kind: _,
            ca_bundle_path,
            headers,
        } = self;
        let ca_bundle =
            ca_bundle_path.and_then(|file| ca_bundle(file, &join_path(path, "caBundlePath"), findings));
        let url = url.and_then(|url| parse_url(&url, &join_path(path, "url"), findings));
        let mut out: Vec<(String, Secret)> = Vec::new();
        let headers_path = join_path(path, "headers");
        for (header, value) in headers {
            let path = join_path(&headers_path, &header);
            let name = header_name_of(&header, &path, findings);
            let value = header_value_of(value, &path, findings);
            if let (Some(name), Some(value)) = (name, value) {
                if out.iter().any(|(other, _)| *other == name) {
                    findings.add_problem(path, format!("the header `{name}` occurs twice"));
                }
                out.push((name, value));
            }
        }
        let mut report_duplicate_header = |header: &str, path: &str| {
            if out.iter().any(|(other, _)| *other == header) {
                let message = format!("`backends[].headers` sets `{header}` for `{name}` too");
                findings.add_problem(path, message).hint = Some("keep one of them".to_owned());
            }
        };
        let mut credentials = None;
        match outgoing.credential_for_http(name) {
            None => {}
            Some(OutgoingCredential::Header(header)) => {
                report_duplicate_header(&header.name, &header.path);
                out.push((header.name, header.value));
            }
            Some(OutgoingCredential::Exchanged(exchanged, path)) => {
                report_duplicate_header("authorization", &path);
                credentials = Some(*exchanged);
            }
        }
        (url.map(|url| HttpPolicy { url, ca_bundle, may_be_sse: false }), (out, credentials))
    }
}

/// Parses the URL of a backend. It may contain a secret, so messages do not repeat it.
fn parse_url(url: &str, path: &str, findings: &mut Findings<'_>) -> Option<Uri> {
    // A fragment is never sent, and `Uri` would drop it without an error.
    let parsed = url.parse::<Uri>().ok().filter(|_| !url.contains('#'));
    let Some(uri) = parsed else {
        findings.add_problem(path, "is not a URL").hint =
            Some("write it like `https://host:port/mcp`".to_owned());
        return None;
    };
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if !authority.host().is_empty() => {
            if authority.as_str().contains('@') {
                findings.add_problem(path, "must not carry a user or password").hint =
                    Some("send them as a header: `headers`, or `outgoingAuth`".to_owned());
                return None;
            }
            Some(uri)
        }
        (Some(scheme), Some(_)) => {
            findings.add_problem(
                path,
                format!("must begin with `http://` or `https://`, but begins with `{scheme}://`"),
            );
            None
        }
        _ => {
            findings.add_problem(path, "must begin with `http://` or `https://`");
            None
        }
    }
}

fn ca_bundle(file: String, path: &str, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let file = PathBuf::from(file);
    let has_parent_component = file.components().any(|part| part == std::path::Component::ParentDir);
    if !file.is_absolute() || has_parent_component || file.as_os_str().as_encoded_bytes().contains(&0) {
        findings.add_problem(path, "must be an absolute path without `..`");
        return None;
    }
    // Only a warning, because the file may be mounted later.
    if let Err(reason) = vmcp_http_client::check_ca_bundle(&file) {
        findings
            .add_warning(path, format!("does not work as it is now, and neither will the backend: {reason}"));
    }
    Some(file)
}
