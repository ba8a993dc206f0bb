//! Which headers of requests to other servers only the gateway writes.

/// Headers that the HTTP client or the MCP transport writes, or that change how a message is parsed or
/// routed. Sorted.
const OWNED: [&str; 18] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "last-event-id",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that say who a client of the gateway is, or where it is. They are for the gateway and for no
/// backend. Sorted.
const ABOUT_CLIENT: [&str; 5] = ["authorization", "cookie", "forwarded", "origin", "x-real-ip"];

/// True for a header that neither an operator nor a client may set on a request to another server. All
/// headers that begin with `mcp-` belong to the protocol. `name` is in lower case.
#[must_use]
pub fn is_owned_header(name: &str) -> bool {
    OWNED.binary_search(&name).is_ok() || name.starts_with("mcp-")
}

/// True for a header of a client's request that an operator may choose to pass on to backends. `name` is in
/// lower case.
#[must_use]
pub fn is_forwardable_header(name: &str) -> bool {
    !is_owned_header(name) && ABOUT_CLIENT.binary_search(&name).is_err() && !name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_hop_headers_are_not_forwarded() {
        assert!(OWNED.is_sorted() && ABOUT_CLIENT.is_sorted());
        assert!(is_owned_header("host") && is_owned_header("mcp-session-id"));
        assert!(!is_owned_header("authorization"), "an operator may set a credential");
        for name in ["authorization", "cookie", "x-forwarded-for", "host", "mcp-session-id"] {
            assert!(!is_forwardable_header(name), "{name}");
        }
        assert!(is_forwardable_header("x-tenant"));
    }
}
