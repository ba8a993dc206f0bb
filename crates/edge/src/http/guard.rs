//! Checks of `Host`, `Origin`, `Accept` and `Content-Type` before a body is read. `authentication` identifies
//! the caller, and the layers behind the gateway decide what a caller may do.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, header};
use vmcp_wire::server::Refusal;

use crate::policy::EdgePolicy;

/// The hosts and origins that a listener accepts.
#[derive(Debug)]
pub(crate) struct HostGuard {
    is_loopback: bool,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl HostGuard {
    pub(crate) fn new(policy: &EdgePolicy) -> Self {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self {
            is_loopback: policy.listen.ip().is_loopback(),
            hosts: lower(&policy.allowed_hosts),
            origins: lower(&policy.allowed_origins),
        }
    }

    /// Checks `Host` and `Origin` against the allowed ones. This prevents DNS rebinding.
    pub(crate) fn check(&self, request: &Parts) -> Result<(), Refusal> {
        self.check_host(request)?;
        let are_origins_allowed =
            request.headers.get_all(header::ORIGIN).iter().all(|origin| self.is_origin_allowed(origin));
        if are_origins_allowed { Ok(()) } else { Err(Refusal::InvalidOrigin) }
    }

    /// Checks `Host` only.
    pub(crate) fn check_host(&self, request: &Parts) -> Result<(), Refusal> {
        let is_checked = self.is_loopback || !self.hosts.is_empty();
        if is_checked && !self.is_host_allowed(request) { Err(Refusal::InvalidHost) } else { Ok(()) }
    }

    fn is_host_allowed(&self, request: &Parts) -> bool {
        request_host(&request.headers, &request.uri).is_some_and(|host| {
            let name = without_port(host);
            let fits = |allowed: &String| {
                allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(name) || allowed == "*"
            };
            is_loopback(name) || self.hosts.iter().any(fits)
        })
    }

    fn is_origin_allowed(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let origin = origin.to_ascii_lowercase();
        if self.origins.iter().any(|allowed| allowed == "*" || *allowed == origin) {
            return true;
        }
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        self.is_loopback && host.is_some_and(|host| is_loopback(without_port(host)))
    }
}

/// The one host of a request. `None` if there is none, if there are several `Host` headers, or if `Host` and
/// the request target differ.
fn request_host<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let mut named = headers.get_all(header::HOST).iter();
    let host = match (named.next(), uri.authority()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/2 puts the host into the request target. If an HTTP/1 request has both, the target counts (RFC
        // 9112 section 3.2.2). If the two differ, the request is treated as an attack.
        (Some(host), Some(authority)) => {
            host.to_str().ok().filter(|host| host.eq_ignore_ascii_case(authority.as_str()))
        }
        (None, authority) => authority.map(http::uri::Authority::as_str),
    };
    host.filter(|_| named.next().is_none())
}

/// True if the request's host is a loopback IPv4 address, `[::1]` or `localhost`.
pub(crate) fn is_for_loopback(headers: &HeaderMap, uri: &Uri) -> bool {
    request_host(headers, uri).is_some_and(|host| is_loopback(without_port(host)))
}

fn without_port(host: &str) -> &str {
    let end = if host.starts_with('[') {
        host.find(']').map_or(host.len(), |end| end + 1)
    } else {
        host.find(':').unwrap_or(host.len())
    };
    let (name, port) = host.split_at(end);
    let is_port =
        port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    if port.is_empty() || is_port { name } else { host }
}

fn is_loopback(name: &str) -> bool {
    let is_v4 = |name: &str| name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    is_v4(name) || name.eq_ignore_ascii_case("localhost") || name == "[::1]"
}

/// The response forms that a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepts {
    pub(crate) json: bool,
    pub(crate) events: bool,
}

/// Reads `Accept`. A request without the header accepts everything.
pub(crate) fn parse_accept(headers: &HeaderMap) -> Accepts {
    let mut accepts = Accepts { json: false, events: false };
    let mut named = false;
    for value in headers.get_all(header::ACCEPT) {
        named = true;
        for range in value.as_bytes().split(|byte| *byte == b',') {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let kind = parts.next().unwrap_or_default();
            let refused = parts.any(|part| matches!(part, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"));
            if refused {
                continue;
            }
            let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
            accepts.json |= is("application/json") || is("application/*") || is("*/*");
            accepts.events |= is("text/event-stream") || is("text/*") || is("*/*");
        }
    }
    if named { accepts } else { Accepts { json: true, events: true } }
}

/// True if the body is declared as JSON. A body without a declared type is refused, because browsers send
/// those across origins without a preflight.
pub(crate) fn has_json_body(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) else {
        return false;
    };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
