//! [`TokenUrl`]: the URL of a token endpoint. A URL that would send tokens in cleartext cannot be built by
//! accident.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;
use tokio::sync::Semaphore;

use crate::error::PolicyError;

/// The most requests in flight to one endpoint. After a restart every caller needs a token, and the issuer
/// must survive that. The limit is per endpoint, so that one that hangs takes no permits from others.
const REQUESTS_MAX: usize = 64;

/// The URL of a token endpoint: `https`, or `http` on this machine, or `http` when the operator allows it.
#[derive(Clone)]
pub struct TokenUrl {
    uri: Uri,
    authority: Arc<str>,
    request_permits: Arc<Semaphore>,
}

impl TokenUrl {
    /// Parses the URL from the setting `field`. `insecure` allows `http` to other machines.
    ///
    /// # Errors
    /// When it is not an absolute `http` or `https` URL, has a user, password or fragment, or lacks TLS.
    pub fn parse(field: &'static str, url: &str, insecure: bool) -> Result<Self, PolicyError> {
        let policy_error = |why: &'static str| Err(PolicyError::new(field, why));
        if url.contains('#') {
            return policy_error("must not contain #; leave out what begins there");
        }
        let shape = "must be the address of a token endpoint, such as https://host/token";
        let Ok(uri) = url.parse::<Uri>() else {
            return policy_error(shape);
        };
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return policy_error(shape);
        };
        if authority.as_str().contains('@') {
            return policy_error("must not carry a user or password; the client id and secret are set apart");
        }
        let is_web = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        if !is_web || authority.host().is_empty() || authority.port_u16() == Some(0) {
            return policy_error(shape);
        }
        if *scheme == Scheme::HTTP && !insecure && !is_loopback(authority.host()) {
            return policy_error("must be https: tokens and secrets would travel readable");
        }
        let authority_text = Arc::from(authority.as_str());
        Ok(Self { uri, authority: authority_text, request_permits: Arc::new(Semaphore::new(REQUESTS_MAX)) })
    }

    /// True when tokens are sent to another machine without TLS, which deserves a warning.
    #[must_use]
    pub fn is_cleartext(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTP) && !self.uri.host().is_some_and(is_loopback)
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// One permit per request in flight.
    pub(crate) fn request_permits(&self) -> &Semaphore {
        &self.request_permits
    }

    /// Host and port, for errors and logs.
    pub(crate) fn authority(&self) -> &Arc<str> {
        &self.authority
    }
}

/// Omits the query, which may contain credentials.
impl fmt::Debug for TokenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.authority, self.uri.path())
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::TokenUrl;

    #[test]
    fn tokens_do_not_travel_readable_by_accident() {
        for (url, insecure, fine, shows) in [
            ("https://idp.example/token", false, true, false),
            ("https://idp.example/token?tenant=1", false, true, false),
            ("http://localhost:1/token", false, true, false),
            ("http://127.8.9.1/token", false, true, false),
            ("http://[::1]:80/token", false, true, false),
            ("http://idp.example/token", false, false, false),
            ("http://idp.example/token", true, true, true),
            ("http://localhost.example/token", false, false, false),
            ("http://127.0.0.1.example/token", false, false, false),
            ("https://me:hush@idp.example/token", true, false, false),
            ("https://idp.example/token#part", true, false, false),
            ("https://idp.example:0/token", true, false, false),
            ("ftp://idp.example/token", true, false, false),
            ("/token", true, false, false),
            ("idp.example", true, false, false),
            ("", true, false, false),
        ] {
            let read = TokenUrl::parse("tokenUrl", url, insecure);
            assert_eq!(read.is_ok(), fine, "{url}");
            match read {
                Ok(read) => assert_eq!(read.is_cleartext(), shows, "{url}"),
                Err(error) => {
                    assert_eq!(error.field(), "tokenUrl");
                    assert!(!error.to_string().contains("hush"));
                }
            }
        }
    }

    #[test]
    fn a_query_is_not_printed() {
        let url = TokenUrl::parse("tokenUrl", "https://idp.example/token?key=hush", false).unwrap();
        assert_eq!(format!("{url:?}"), "idp.example/token");
    }
}
