//! Restricts redirects to the same scheme, host and port. Credentials and arguments then never reach another
//! server, and no backend can redirect the gateway into the local network.

use http::Uri;
use http::uri::{Authority, Scheme};

/// Maximum number of redirects followed for one request.
pub(crate) const REDIRECTS_MAX: usize = 5;

/// Resolves `location` relative to `base`. `None` if the result is not on the same origin.
pub(crate) fn resolve_same_origin(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    if location.is_empty() {
        return None;
    }
    let (scheme, authority) = (base.scheme()?, base.authority()?);
    if location.starts_with("//") || has_scheme(location) {
        let absolute = match location.strip_prefix("//") {
            Some(rest) => format!("{scheme}://{rest}"),
            None => location.to_owned(),
        };
        let uri: Uri = absolute.parse().ok()?;
        return same_origin(base, &uri).then_some(uri);
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with('?') {
        format!("{}{location}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{location}")
    };
    Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query(path).build().ok()
}

/// Formats an address for an operator: without user, password and query, which may be secret.
pub(crate) fn redact(location: &str) -> String {
    const CHARS_MAX: usize = 200;
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let location = match location.split_once("://") {
        Some((scheme, rest)) => {
            let host_begins =
                rest.split('/').next().and_then(|authority| authority.rfind('@')).map_or(0, |at| at + 1);
            format!("{scheme}://{}", rest.get(host_begins..).unwrap_or_default())
        }
        None => location.to_owned(),
    };
    let graphic: String = location.chars().filter(char::is_ascii_graphic).take(CHARS_MAX).collect();
    format!("`{graphic}`")
}

fn has_scheme(location: &str) -> bool {
    let Some((scheme, _)) = location.split_once(':') else {
        return false;
    };
    !scheme.contains(['/', '?']) && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// True if both addresses have the same scheme, host and port, and `other` contains no user or password.
fn same_origin(one: &Uri, other: &Uri) -> bool {
    let plain = |authority: &Authority| !authority.as_str().contains('@');
    let port =
        |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    one.scheme() == other.scheme()
        && other.authority().is_some_and(plain)
        && port(one) == port(other)
        && match (one.host(), other.host()) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_no_secrets() {
        for (location, expected) in [
            ("https://user:secret@host.example/mcp/?key=secret#x", "`https://host.example/mcp/`"),
            ("/mcp/", "`/mcp/`"),
            ("https://host.example", "`https://host.example`"),
            ("http://host.example/a@b\u{7}", "`http://host.example/a@b`"),
        ] {
            assert_eq!(redact(location), expected);
        }
    }

    #[test]
    fn only_the_same_origin_is_followed() {
        let base: Uri = "http://Host.example/a/mcp?x=1".parse().unwrap();
        let seen =
            |location: &str| resolve_same_origin(&base, location).map(|uri| uri.to_string().to_lowercase());
        assert_eq!(seen("/mcp/").as_deref(), Some("http://host.example/mcp/"));
        assert_eq!(seen("mcp/#f").as_deref(), Some("http://host.example/a/mcp/"));
        assert_eq!(seen("?y").as_deref(), Some("http://host.example/a/mcp?y"));
        assert_eq!(seen("http://host.example:80/b").as_deref(), Some("http://host.example:80/b"));
        assert_eq!(seen("//host.example/c").as_deref(), Some("http://host.example/c"));
        for elsewhere in [
            "",
            "#x",
            "https://host.example/b",
            "http://host.example:81/b",
            "http://other.example/",
            "//other.example/",
            "http://u:p@host.example/b",
            "file:///etc/passwd",
            "javascript:1",
        ] {
            assert_eq!(seen(elsewhere), None, "{elsewhere}");
        }
    }
}
