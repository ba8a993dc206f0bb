//! Requests that are signed with the keys of an AWS role, for which the caller's token is exchanged
//! (AssumeRoleWithWebIdentity).

pub(crate) mod cel_matcher;
mod policy;
mod roles;
pub(crate) mod sigv4;
mod sts;

use std::sync::Arc;

use vmcp_domain::{BoxFuture, IsolationScope};

use crate::cache::CacheKey;
use crate::error::CredentialError;
use crate::exchange_context::ExchangeContext;
use crate::source::bearer_source::require_caller;
use crate::source::scope;
use crate::source::{CredentialHeaders, CredentialSource, RequestView, Subject};

pub use policy::AwsStsPolicy;
pub use roles::{RoleMapping, RoleMatch, Roles};

/// The source of one backend's signatures.
pub struct AwsStsSource {
    policy: Arc<AwsStsPolicy>,
    exchange_context: Arc<ExchangeContext>,
    fingerprint: [u8; 32],
}

impl AwsStsSource {
    /// Builds a source with these settings.
    #[must_use]
    pub fn new(policy: AwsStsPolicy, exchange_context: Arc<ExchangeContext>) -> Self {
        let fingerprint = policy.fingerprint();
        Self { policy: Arc::new(policy), exchange_context, fingerprint }
    }

    async fn sign_for(
        &self,
        caller: &Subject<'_>,
        request: &RequestView<'_>,
    ) -> Result<CredentialHeaders, CredentialError> {
        // The role is selected for every request: the claims of an opaque token may change while the token
        // stays the same.
        let role = self.policy.roles.select_role(caller.identity)?;
        let session = self.policy.session_name(caller.identity)?;
        let request_parts = [role.as_ref(), &session];
        let strategy = scope::fingerprint_with(&self.fingerprint, &request_parts);
        let key = CacheKey { strategy, subject: caller.token.digest() };
        let fetch = || {
            let (policy, exchange_context) = (Arc::clone(&self.policy), Arc::clone(&self.exchange_context));
            let (role, session, token) = (Arc::clone(role), session.clone(), caller.token.clone());
            async move { sts::assume_role(&policy, &exchange_context, &token, &role, &session).await }
        };
        let (aws_credentials, receipt) =
            self.exchange_context.aws_cache.get(key, self.policy.sts_url.authority(), fetch).await?;
        let now = self.exchange_context.clock.time_of_day().as_duration();
        let headers = sigv4::sign(request, &aws_credentials, &self.policy.region, &self.policy.service, now)?;
        Ok(CredentialHeaders::cached(headers, receipt))
    }
}

impl CredentialSource for AwsStsSource {
    fn name(&self) -> &'static str {
        "aws_sts"
    }

    fn scope(&self, caller: Option<&Subject<'_>>) -> Result<IsolationScope, CredentialError> {
        let caller = require_caller(caller, self.name())?;
        let role = self.policy.roles.select_role(caller.identity)?;
        let session = self.policy.session_name(caller.identity)?;
        Ok(scope::caller_scope(&self.fingerprint, caller.identity, &[role, &session]))
    }

    fn headers_for_caller<'a>(
        &'a self,
        caller: Option<&'a Subject<'a>>,
        request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>> {
        Box::pin(async move { self.sign_for(require_caller(caller, self.name())?, request).await })
    }

    fn headers_for_gateway<'a>(
        &'a self,
        _request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>> {
        // The gateway has no account of its own at AWS.
        Box::pin(std::future::ready(Ok(CredentialHeaders::uncached(Vec::new()))))
    }

    fn invalidate(&self, credential_headers: &CredentialHeaders) -> bool {
        credential_headers
            .version()
            .is_some_and(|receipt| self.exchange_context.aws_cache.invalidate(receipt))
    }
}
