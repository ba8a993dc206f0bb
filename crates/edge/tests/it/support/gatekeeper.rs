//! A scripted authenticator: the text of a token decides the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use vmcp_domain::{
    Authentication, Authenticator, BoxFuture, Caller, Challenge, Identity, InvalidTokenReason,
    ProtectedResource, Unauthorized,
};
use vmcp_edge::policy::{EdgePolicy, IncomingAuth};
use vmcp_json::Json;

use super::policy;

#[derive(Debug)]
pub(crate) struct FakeAuthenticator {
    pub(crate) challenge: Challenge,
    pub(crate) request_count: AtomicUsize,
}

impl FakeAuthenticator {
    pub(crate) fn new() -> Arc<Self> {
        let scopes = vec!["mcp".to_owned(), "tools".to_owned()];
        let challenge = Challenge {
            realm: "https://idp.example".to_owned(),
            scopes: scopes.clone(),
            resource: Some(ProtectedResource {
                resource: "https://mcp.example/team/mcp".to_owned(),
                authorization_servers: vec!["https://idp.example".to_owned()],
                scopes,
                name: Some("vmcp".to_owned()),
            }),
        };
        Arc::new(Self { challenge, request_count: AtomicUsize::new(0) })
    }

    pub(crate) fn policy(self: Arc<Self>) -> EdgePolicy {
        EdgePolicy { incoming: IncomingAuth::Bearer(self), ..policy() }
    }

    fn check(&self, authorization: Option<&[u8]>) -> Result<Authentication, Unauthorized> {
        self.request_count.fetch_add(1, Ordering::SeqCst);
        let value = std::str::from_utf8(authorization.ok_or(Unauthorized::Missing)?).unwrap();
        let token = value.strip_prefix("Bearer ").ok_or(Unauthorized::Malformed)?;
        let (issuer, subject, valid_for) = match token {
            "expired" => return Err(Unauthorized::InvalidToken(InvalidTokenReason::Expired)),
            "forged" => return Err(Unauthorized::InvalidToken(InvalidTokenReason::Signature)),
            "narrow" => {
                return Err(Unauthorized::InsufficientScope {
                    required: self.challenge.scopes.clone().into(),
                });
            }
            "down" => return Err(Unauthorized::Unavailable),
            "brief" => ("https://idp.example", "alice", Some(Duration::from_millis(200))),
            "alice" | "alice-later" => ("https://idp.example", "alice", Some(Duration::from_secs(3600))),
            "elsewhere" => ("https://other.example", "alice", None),
            other => ("https://idp.example", other, None),
        };
        let claims = [("token".to_owned(), Json::string(token))].into_iter().collect();
        let identity = Identity { issuer: issuer.to_owned(), subject: subject.to_owned(), claims };
        Ok(Authentication { caller: Caller::Known(Arc::new(identity)), token: None, valid_for })
    }
}

impl Authenticator for FakeAuthenticator {
    fn authenticate<'a>(
        &'a self,
        authorization: Option<&'a [u8]>,
        _address: Option<std::net::IpAddr>,
    ) -> BoxFuture<'a, Result<Authentication, Unauthorized>> {
        Box::pin(async move { self.check(authorization) })
    }

    fn challenge(&self) -> &Challenge {
        &self.challenge
    }
}
