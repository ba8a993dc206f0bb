//! Where the issuer's keys and its introspection are: OpenID Connect Discovery first, then RFC 8414. The document
//! must name the very issuer it was asked for, and what it names is held to the same rules as a configured address.

use http::Uri;
use vmcp_domain::{Json, Members};

use crate::fetch::{FetchFault, Fetcher};
use crate::policy::{OidcPolicy, endpoint};

/// What the issuer says about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) jwks: Option<Uri>,
    pub(crate) introspection: Option<Uri>,
    /// Introspection takes the client's secret in the form only.
    pub(crate) secret_in_form: bool,
}

/// Asks the issuer about itself.
pub(crate) async fn discover(fetcher: &Fetcher, policy: &OidcPolicy) -> Result<Metadata, FetchFault> {
    let mut last = FetchFault::NotJson;
    for uri in addresses(&policy.issuer) {
        match fetcher.get(&uri).await {
            Ok(document) => return read(&document, policy),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// The places where the document may stand.
fn addresses(issuer: &str) -> Vec<Uri> {
    let base = issuer.trim_end_matches('/');
    let start = base.find("://").map_or(0, |place| place + 3);
    let path = base.get(start..).and_then(|rest| rest.find('/')).map_or(base.len(), |place| start + place);
    let (origin, path) = base.split_at(path);
    [
        format!("{base}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ]
    .into_iter()
    .filter_map(|text| text.parse().ok())
    .collect()
}

fn read(document: &Json, policy: &OidcPolicy) -> Result<Metadata, FetchFault> {
    let members = document.members().map_err(|_| FetchFault::NotJson)?;
    if text(&members, "issuer").as_deref() != Some(&*policy.issuer) {
        return Err(FetchFault::Content("it names another issuer"));
    }
    let address = |name| match text(&members, name) {
        None => Ok(None),
        Some(text) => endpoint(&text, policy.allow_http, policy.reach)
            .map(Some)
            .map_err(|_| FetchFault::Content("it names an address that is not allowed")),
    };
    let methods = members.get("introspection_endpoint_auth_methods_supported");
    let methods: Vec<String> = methods.and_then(|methods| methods.decode().ok()).unwrap_or_default();
    let takes = |method: &str| methods.iter().any(|known| known == method);
    Ok(Metadata {
        jwks: address("jwks_uri")?,
        introspection: address("introspection_endpoint")?,
        secret_in_form: takes("client_secret_post") && !takes("client_secret_basic"),
    })
}

fn text(members: &Members, name: &str) -> Option<String> {
    members.get(name).and_then(Json::to_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_stand_beside_and_before_the_path() {
        let texts = |issuer| addresses(issuer).iter().map(ToString::to_string).collect::<Vec<_>>();
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
