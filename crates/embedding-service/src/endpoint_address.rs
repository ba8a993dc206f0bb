//! The base address of a service, and the addresses of its endpoints.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::policy_error::PolicyError;

/// A base address without user, password and fragment. Its path has no trailing slash.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EndpointAddress {
    scheme: Scheme,
    authority: Authority,
    path: String,
    query: Option<String>,
}

impl EndpointAddress {
    /// Parses a base address. An address that ends in `/embeddings` or `/embed` is reduced to its base.
    pub(crate) fn parse(url: &str) -> Result<Self, PolicyError> {
        if url.contains('#') {
            return Err(PolicyError::UrlFragment);
        }
        let uri: Uri = url.parse().map_err(|_| PolicyError::Url)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(PolicyError::Url);
        };
        if authority.as_str().contains('@') {
            return Err(PolicyError::UrlCredentials);
        }
        let is_web = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        if !is_web || authority.host().is_empty() || authority.port_u16() == Some(0) {
            return Err(PolicyError::Url);
        }
        let path = parts.path_and_query.as_ref().map_or("", |path| path.path()).trim_end_matches('/');
        let path = ["/embeddings", "/embed"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
        let query = parts.path_and_query.as_ref().and_then(|path| path.query()).map(str::to_owned);
        Ok(Self { scheme, authority, path: path.to_owned(), query })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.authority.host().trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    pub(crate) fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Host, port and path: they identify the service without its query parameters.
    pub(crate) fn authority_and_path(&self) -> String {
        format!("{}{}", self.authority, self.path)
    }

    /// The address of an endpoint; `path` begins with a slash. The query of the base address is appended.
    pub(crate) fn endpoint(&self, path: &str) -> Option<Uri> {
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}{query}", self.path))
            .build()
            .ok()
    }

    /// Candidate paths of the embeddings endpoint, the most likely first. A base with a version suffix or a
    /// query is complete. For a bare host, `/v1/embeddings` comes first, because some servers have an
    /// endpoint of another format at `/embeddings`.
    pub(crate) fn openai_endpoints(&self) -> Vec<&'static str> {
        let last = self.path.rsplit('/').next().unwrap_or_default();
        let digits = last.strip_prefix('v').unwrap_or_default();
        let is_version = digits.starts_with(|first: char| first.is_ascii_digit());
        if is_version || self.query.is_some() {
            vec!["/embeddings"]
        } else if self.path.is_empty() {
            vec!["/v1/embeddings", "/embeddings"]
        } else {
            vec!["/embeddings", "/v1/embeddings"]
        }
    }
}

/// Omits the query, because some services receive credentials there.
impl fmt::Debug for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority_and_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(url: &str) -> Vec<String> {
        let address = EndpointAddress::parse(url).unwrap();
        let paths = address.openai_endpoints();
        paths.iter().map(|path| address.endpoint(path).unwrap().to_string()).collect()
    }

    #[test]
    fn a_base_with_and_without_its_version_is_as_good() {
        assert_eq!(endpoints("https://h/v1"), ["https://h/v1/embeddings"]);
        assert_eq!(endpoints("https://h/v1/"), ["https://h/v1/embeddings"]);
        assert_eq!(endpoints("https://h/v1/embeddings"), ["https://h/v1/embeddings"]);
        assert_eq!(endpoints("http://h:1"), ["http://h:1/v1/embeddings", "http://h:1/embeddings"]);
        assert_eq!(
            endpoints("http://h/openai"),
            ["http://h/openai/embeddings", "http://h/openai/v1/embeddings"]
        );
        assert_eq!(
            endpoints("https://h/openai/deployments/d?api-version=2024-02-01"),
            ["https://h/openai/deployments/d/embeddings?api-version=2024-02-01"]
        );
    }

    #[test]
    fn tei_is_below_its_base() {
        for url in ["http://h:8080", "http://h:8080/", "http://h:8080/embed"] {
            assert_eq!(EndpointAddress::parse(url).unwrap().endpoint("/info").unwrap(), "http://h:8080/info");
        }
        assert_eq!(
            EndpointAddress::parse("http://h/tei").unwrap().endpoint("/embed").unwrap(),
            "http://h/tei/embed"
        );
    }

    #[test]
    fn loopback_is_recognised() {
        for (url, is) in [
            ("http://localhost:1", true),
            ("http://127.8.9.1", true),
            ("http://[::1]:80", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(EndpointAddress::parse(url).unwrap().is_loopback(), is, "{url}");
        }
    }

    #[test]
    fn parameters_are_not_printed() {
        let address = EndpointAddress::parse("https://h/v1?code=hush").unwrap();
        assert_eq!(format!("{address:?} {}", address.authority_and_path()), "https://h/v1 h/v1");
    }
}
