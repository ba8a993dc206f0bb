//! The validated settings of one issuer. Invalid values cannot be constructed. All errors of the settings are
//! reported together.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
pub use vmcp_domain::Secret;

use vmcp_http_client::{AddressPolicy, is_localhost};

/// The largest leeway for clock differences.
pub const LEEWAY_MAX: Duration = Duration::from_secs(60);
/// The most audiences, scopes or algorithms.
const ENTRIES_MAX: usize = 64;

/// One issuer's settings as an operator writes them.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// The issuer's URL, exactly as it appears in tokens.
    pub issuer: String,
    /// The accepted audiences. A token needs one of them.
    pub audiences: Vec<String>,
    /// The URL of the signing keys; `None` to use discovery.
    pub jwks_url: Option<String>,
    /// The URL of the introspection endpoint (RFC 7662). With `None` discovery finds it, if there is a client
    /// secret.
    pub introspection_url: Option<String>,
    /// The gateway's client identifier at the issuer, for introspection.
    pub client_id: Option<String>,
    /// The secret of that client.
    pub client_secret: Option<Secret>,
    /// Scopes that every token must have.
    pub required_scopes: Vec<String>,
    /// The accepted signature algorithms, by their names in RFC 7518. Empty accepts every asymmetric one.
    pub algorithms: Vec<String>,
    /// The leeway for clock differences, at most [`LEEWAY_MAX`].
    pub leeway: Duration,
    /// Allows the issuer and its documents on private, link-local and loopback addresses.
    pub allow_private_addresses: bool,
    /// Allows plain HTTP to hosts other than this machine.
    pub allow_http: bool,
    /// A PEM file of certificate authorities that replace the system's.
    pub ca_bundle: Option<PathBuf>,
    /// The URL of the MCP endpoint as clients know it, for the metadata document of RFC 9728.
    pub resource: Option<String>,
}

impl OidcSettings {
    /// Settings for tokens of `issuer` for `audience`, with defaults for everything else: 30 seconds of
    /// leeway.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            jwks_url: None,
            introspection_url: None,
            client_id: None,
            client_secret: None,
            required_scopes: Vec::new(),
            algorithms: Vec::new(),
            leeway: Duration::from_secs(30),
            allow_private_addresses: false,
            allow_http: false,
            ca_bundle: None,
            resource: None,
        }
    }
}

/// What is wrong with one setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` {message}")]
pub struct SettingError {
    /// The setting, by its name in [`OidcSettings`] or [`crate::ApiKey`].
    pub setting: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl SettingError {
    pub(crate) fn new(setting: &'static str, message: impl Into<String>) -> Self {
        Self { setting, message: message.into() }
    }
}

/// The validated settings of one issuer.
#[derive(Clone, Debug)]
pub struct OidcPolicy {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) jwks_uri: Option<Uri>,
    pub(crate) introspection: Introspection,
    pub(crate) required_scopes: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) leeway_s: u64,
    pub(crate) address_policy: AddressPolicy,
    pub(crate) allow_http: bool,
    pub(crate) ca_bundle: Option<PathBuf>,
    pub(crate) resource: Option<String>,
}

/// Whether opaque tokens are accepted, and how they are introspected.
#[derive(Clone, Debug)]
pub(crate) enum Introspection {
    /// Opaque tokens are rejected.
    Disabled,
    /// Opaque tokens are introspected at this URL, or at the one that discovery finds.
    Enabled(Option<Uri>, IntrospectionClient),
}

/// The gateway's client for introspection requests.
#[derive(Clone, Debug)]
pub(crate) struct IntrospectionClient {
    pub(crate) id: Option<String>,
    pub(crate) secret: Option<Secret>,
}

impl OidcPolicy {
    /// Validates settings.
    ///
    /// # Errors
    /// All invalid settings.
    pub fn new(settings: OidcSettings) -> Result<Self, Vec<SettingError>> {
        let OidcSettings {
            issuer,
            audiences,
            jwks_url,
            introspection_url,
            client_id,
            client_secret,
            required_scopes,
            algorithms,
            leeway,
            allow_private_addresses,
            allow_http,
            ca_bundle,
            resource,
        } = settings;
        let mut errors = Vec::new();
        let address_policy =
            if allow_private_addresses { AddressPolicy::Anywhere } else { AddressPolicy::Public };
        let mut url = |setting, text: &str| match parse_endpoint(text, allow_http, address_policy) {
            Ok(uri) => Some(uri),
            Err(message) => {
                errors.push(SettingError::new(setting, message));
                None
            }
        };
        let parsed = url("issuer", &issuer);
        let jwks_uri = jwks_url.and_then(|text| url("jwks_url", &text));
        let introspection_uri = introspection_url.and_then(|text| url("introspection_url", &text));
        if parsed.is_some_and(|uri| uri.query().is_some()) {
            errors.push(SettingError::new("issuer", "must not have a query"));
        }
        check_names("audiences", &audiences, |_| true, &mut errors);
        if audiences.is_empty() {
            errors.push(SettingError::new("audiences", "must name at least one audience of tokens"));
        }
        check_names("required_scopes", &required_scopes, is_scope, &mut errors);
        if client_secret.is_some() && client_id.as_deref().is_none_or(str::is_empty) {
            errors.push(SettingError::new("client_id", "is needed with a client secret"));
        }
        if leeway > LEEWAY_MAX {
            let message = format!("must not exceed {} seconds", LEEWAY_MAX.as_secs());
            errors.push(SettingError::new("leeway", message));
        }
        if let Some(message) = resource.as_deref().and_then(check_resource) {
            errors.push(SettingError::new("resource", message));
        }
        let algorithms = parse_algorithms(&algorithms, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let client = IntrospectionClient { id: client_id, secret: client_secret };
        let introspection = if introspection_uri.is_some() || client.secret.is_some() {
            Introspection::Enabled(introspection_uri, client)
        } else {
            Introspection::Disabled
        };
        Ok(Self {
            issuer,
            audiences,
            jwks_uri,
            introspection,
            required_scopes,
            algorithms,
            leeway_s: leeway.as_secs(),
            address_policy,
            allow_http,
            ca_bundle,
            resource,
        })
    }
}

/// Parses a URL that the gateway may connect to: `https`, or `http` where that is allowed.
pub(crate) fn parse_endpoint(
    text: &str,
    allow_http: bool,
    address_policy: AddressPolicy,
) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|_| "is not a URL".to_owned())?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || text.contains('#') || uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err("must be a URL with a host, without a fragment and without a user".to_owned());
    }
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if allow_http || is_loopback_host(host) => {}
        Some("http") => return Err("must be `https`, unless `http` is allowed".to_owned()),
        _ => return Err("must begin with `https://`".to_owned()),
    }
    address_policy.check_host(host).map_err(|fault| fault.to_string())?;
    Ok(uri)
}

fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    is_localhost(bare) || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn check_resource(text: &str) -> Option<&'static str> {
    let parsed: Option<Uri> = text.parse().ok();
    let is_http_url = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if !is_http_url {
        return Some("must be the URL of the endpoint as clients know it");
    }
    text.contains(['#', '?', '"', '\\']).then_some("must have neither query nor fragment")
}

/// True for a `scope-token` of RFC 6749.
fn is_scope(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

fn check_names(
    setting: &'static str,
    names: &[String],
    is_valid: impl Fn(&str) -> bool,
    errors: &mut Vec<SettingError>,
) {
    if names.len() > ENTRIES_MAX {
        errors.push(SettingError::new(setting, format!("must not have more than {ENTRIES_MAX} entries")));
    }
    for name in names.iter().filter(|name| name.is_empty() || !is_valid(name)) {
        errors.push(SettingError::new(setting, format!("has an entry that cannot be: `{name}`")));
    }
}

/// The algorithms whose signatures anyone can verify but only the issuer can create.
const ASYMMETRIC_ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

fn parse_algorithms(names: &[String], errors: &mut Vec<SettingError>) -> Vec<Algorithm> {
    if names.is_empty() {
        return ASYMMETRIC_ALGORITHMS.to_vec();
    }
    let mut algorithms = Vec::new();
    for name in names.iter().take(ENTRIES_MAX) {
        match name.parse::<Algorithm>() {
            Ok(algorithm) if algorithm.family() != AlgorithmFamily::Hmac => algorithms.push(algorithm),
            // With a shared secret, every verifier could also create tokens. `none` is not a signature.
            Ok(_) | Err(_) => {
                let message = format!("knows no asymmetric algorithm `{name}`");
                errors.push(SettingError::new("algorithms", message));
            }
        }
    }
    algorithms
}

#[cfg(test)]
mod tests;
