//! Finds the issuer's key set and introspection endpoint: OpenID Connect Discovery first, then RFC 8414. The
//! document must name exactly the configured issuer. Its URLs must satisfy the same rules as configured ones.

use http::Uri;
use vmcp_json::{Json, Members};

use crate::fetcher::{FetchError, Fetcher};
use crate::policy::{OidcPolicy, parse_endpoint};

/// The relevant part of the issuer's metadata.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) jwks_uri: Option<Uri>,
    pub(crate) introspection_uri: Option<Uri>,
    /// The introspection endpoint accepts the client secret only in the form.
    pub(crate) is_secret_in_form: bool,
}

/// Fetches the issuer's metadata.
pub(crate) async fn discover(fetcher: &Fetcher, policy: &OidcPolicy) -> Result<Metadata, FetchError> {
    let mut last = FetchError::NotJson;
    for uri in metadata_urls(&policy.issuer) {
        match fetcher.get(&uri).await {
            Ok(document) => return parse_metadata(&document, policy),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// The URLs at which the metadata document may be found.
fn metadata_urls(issuer: &str) -> Vec<Uri> {
    let base = issuer.trim_end_matches('/');
    let start = base.find("://").map_or(0, |index| index + 3);
    let path = base.get(start..).and_then(|rest| rest.find('/')).map_or(base.len(), |index| start + index);
    let (origin, path) = base.split_at(path);
    [
        format!("{base}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ]
    .into_iter()
    .filter_map(|text| text.parse().ok())
    .collect()
}

fn parse_metadata(document: &Json, policy: &OidcPolicy) -> Result<Metadata, FetchError> {
    let members = document.members().map_err(|_| FetchError::NotJson)?;
    if text_member(&members, "issuer").as_deref() != Some(&*policy.issuer) {
        return Err(FetchError::Invalid("it names another issuer"));
    }
    let endpoint_member = |name| match text_member(&members, name) {
        None => Ok(None),
        Some(text) => parse_endpoint(&text, policy.allow_http, policy.address_policy)
            .map(Some)
            .map_err(|_| FetchError::Invalid("it names an address that is not allowed")),
    };
    let methods = members.get("introspection_endpoint_auth_methods_supported");
    let methods: Vec<String> = methods.and_then(|methods| methods.decode().ok()).unwrap_or_default();
    let is_supported = |method: &str| methods.iter().any(|known| known == method);
    Ok(Metadata {
        jwks_uri: endpoint_member("jwks_uri")?,
        introspection_uri: endpoint_member("introspection_endpoint")?,
        is_secret_in_form: is_supported("client_secret_post") && !is_supported("client_secret_basic"),
    })
}

fn text_member(members: &Members, name: &str) -> Option<String> {
    members.get(name).and_then(Json::decode_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_stand_beside_and_before_the_path() {
        let texts = |issuer| metadata_urls(issuer).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts("https://idp.example/tenant/"),
            [
                "https://idp.example/tenant/.well-known/openid-configuration",
                "https://idp.example/.well-known/oauth-authorization-server/tenant"
            ]
        );
        assert_eq!(
            texts("https://idp.example:8443"),
            [
                "https://idp.example:8443/.well-known/openid-configuration",
                "https://idp.example:8443/.well-known/oauth-authorization-server"
            ]
        );
    }
}
