//! Converts `listen`, `incomingAuth` and `passthroughHeaders` into the policy of the client edge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderName;
use ipnet::IpNet;
use vmcp_edge::policy::{EdgePolicy, ServerInfo};
use vmcp_http_client::is_forwardable_header;
use vmcp_identity::BearerPolicy;
use vmcp_wire::error_response::AnswerPolicy;

use super::{Findings, answers, bounds, incoming};
use crate::file::{AnswerForm, IncomingAuth, Listen};
use crate::report::{Problem, item_path};
use crate::settings::Overrides;

/// The default port of the client listener, the same as in ToolHive.
pub(crate) const PORT: u16 = 4483;

/// The default path of the MCP endpoint.
const ENDPOINT: &str = "/mcp";

/// The paths of the gateway's own pages. The MCP endpoint must not be one of them or below one.
const RESERVED_PATHS: [&str; 8] =
    ["/health", "/ping", "/readyz", "/status", "/metrics", "/limits", "/api", "/.well-known"];

/// The sections of the file that concern the client edge.
pub(super) struct EdgeSections {
    pub(super) listen: Option<Listen>,
    pub(super) answer: Option<AnswerForm>,
    pub(super) incoming_auth: Option<IncomingAuth>,
    pub(super) passthrough_headers: Vec<String>,
}

/// The policy of the client edge; `None` if the address is wrong or callers cannot be authenticated.
pub(super) fn convert(
    (name, parts): (&str, EdgeSections),
    overrides: &Overrides,
    findings: &mut Findings<'_>,
) -> Option<EdgePolicy<BearerPolicy>> {
    let EdgeSections { listen, answer, incoming_auth: incoming, passthrough_headers: passthrough } = parts;
    let Listen { host, port, path, allowed_origins, allowed_hosts, trusted_proxies, bounds } =
        listen.unwrap_or_default();
    let (host, host_path) = match &overrides.host {
        Some(host) => (Some(host.clone()), "--host"),
        None => (host, "listen.host"),
    };
    let address = match host {
        Some(host) => parse_host(&host, host_path, findings),
        None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let listen_scope = incoming::ListenScope::for_address(address, host_path);
    let incoming = incoming::convert(incoming.as_ref(), name, &listen_scope, overrides, findings);
    let mut limits = bounds::convert(bounds.unwrap_or_default(), findings);
    // Zero means the default, as with ToolHive's flag.
    if let Some(ttl) = overrides.session_ttl.filter(|ttl| !ttl.is_zero()) {
        limits.session_idle_max = ttl;
    }
    let port = overrides.port.or(port).unwrap_or(PORT);
    Some(EdgePolicy {
        server: ServerInfo { name: name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        path: convert_path(path, findings),
        allowed_origins: convert_origins(allowed_origins, findings),
        allowed_hosts: convert_hosts(allowed_hosts, findings),
        passthrough_headers: convert_passthrough(passthrough, findings),
        trusted_proxies: convert_proxies(trusted_proxies, findings),
        scrape_key: None,
        answers: AnswerPolicy::with_shape(answers::shape(answer, findings)),
        freezes_tools: false,
        virtual_tools: Vec::new(),
        limits,
        incoming: incoming?,
        listen: SocketAddr::new(address?, port),
    })
}

pub(super) fn parse_host(host: &str, path: &str, findings: &mut Findings<'_>) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format!("`{host}` is not an IP address or `localhost`");
            let hint = "use `0.0.0.0` to listen on every address; the port is a key of its own";
            findings.push(Problem::new(path, message).with_hint(hint));
            None
        }
    }
}

fn convert_path(path: Option<String>, findings: &mut Findings<'_>) -> String {
    let path = path.unwrap_or_else(|| ENDPOINT.to_owned());
    let is_path_char = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if !path.starts_with('/') {
        findings.add_problem("listen.path", format!("must start with `/`, but is `{path}`"));
    } else if !path.chars().all(is_path_char) || path.contains("//") {
        findings
            .add_problem("listen.path", "must be made of letters, digits, `-`, `_`, `.`, `~` and single `/`");
    } else if RESERVED_PATHS
        .iter()
        .any(|reserved| path == *reserved || path.starts_with(&format!("{reserved}/")))
    {
        findings.add_problem("listen.path", format!("`{path}` is answered by the gateway itself"));
    }
    path
}

fn convert_origins(origins: Vec<String>, findings: &mut Findings<'_>) -> Vec<String> {
    for (index, origin) in origins.iter().enumerate() {
        let host = origin.split_once("://").map(|(_, host)| host);
        let is_valid = origin == "*" || host.is_some_and(|host| is_host(host, true));
        if !is_valid {
            let path = item_path("listen.allowedOrigins", index);
            let message = format!("`{origin}` is not an origin");
            findings.push(
                Problem::new(path, message)
                    .with_hint("write it like `https://app.example.com`, or `*` for any"),
            );
        }
    }
    origins.into_iter().map(|origin| origin.to_ascii_lowercase()).collect()
}

fn convert_hosts(hosts: Vec<String>, findings: &mut Findings<'_>) -> Vec<String> {
    for (index, host) in hosts.iter().enumerate() {
        if !is_host(host, false) {
            let path = item_path("listen.allowedHosts", index);
            let message = format!("`{host}` is not a host name");
            findings.push(
                Problem::new(path, message)
                    .with_hint("write it like `mcp.example.com`, without scheme and port"),
            );
        }
    }
    hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()
}

fn is_host(host: &str, port_allowed: bool) -> bool {
    let parsed = host.parse::<http::uri::Authority>();
    parsed.is_ok_and(|host| {
        !host.host().is_empty() && !host.as_str().contains('@') && (port_allowed || host.port().is_none())
    })
}

fn convert_passthrough(names: Vec<String>, findings: &mut Findings<'_>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let path = item_path("passthroughHeaders", index);
        match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => {
                findings.add_problem(path, format!("`{name}` is not a header name"));
            }
            Ok(parsed) if !is_forwardable_header(parsed.as_str()) => {
                findings.add_problem(path, format!("the header `{parsed}` must not be passed on"));
            }
            Ok(parsed) if out.iter().any(|other| other == parsed.as_str()) => {
                findings.add_warning(path, format!("the header `{parsed}` occurs twice"));
            }
            Ok(parsed) => out.push(parsed.as_str().to_owned()),
        }
    }
    out
}

/// Parses networks, or single addresses, of trusted proxies.
fn convert_proxies(proxies: Vec<String>, findings: &mut Findings<'_>) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (index, text) in proxies.iter().enumerate() {
        match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(net) => nets.push(net),
            Err(_) => {
                let path = item_path("listen.trustedProxies", index);
                let problem = Problem::new(path, format!("`{text}` is neither an address nor a network"));
                findings.push(problem.with_hint("write it as `10.0.0.1` or `10.0.0.0/8`"));
            }
        }
    }
    nets
}
