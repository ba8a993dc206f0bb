//! Requests signed with keys of an AWS role that the caller's token is exchanged for (AssumeRoleWithWebIdentity).

mod matcher;
mod policy;
mod roles;
mod sign;
mod sts;

use std::sync::Arc;

use vmcp_domain::{BoxFuture, Scope};

use crate::bearer::known;
use crate::cache::Key;
use crate::error::CredentialError;
use crate::exchanges::Exchanges;
use crate::scope;
use crate::source::{Applied, CredentialSource, Outgoing, Subject};

pub use policy::AwsStsPolicy;
pub use roles::{RoleMapping, RoleMatch, Roles};

/// The source of one backend's signatures.
pub struct AwsSts {
    policy: Arc<AwsStsPolicy>,
    exchanges: Arc<Exchanges>,
    fingerprint: [u8; 32],
}

impl AwsSts {
    /// A source under `policy`.
    #[must_use]
    pub fn new(policy: AwsStsPolicy, exchanges: Arc<Exchanges>) -> Self {
        let fingerprint = policy.fingerprint();
        Self { policy: Arc::new(policy), exchanges, fingerprint }
    }

    async fn apply_for(
        &self,
        caller: &Subject<'_>,
        request: &Outgoing<'_>,
    ) -> Result<Applied, CredentialError> {
        // Chosen for every request: the claims behind an opaque token may change while the token stays.
        let role = self.policy.roles.choose(caller.identity)?;
        let session = self.policy.session_name(caller.identity)?;
        let asked = [role.as_ref(), &session];
        let strategy = scope::fingerprint_under(&self.fingerprint, &asked);
        let key = Key { strategy, subject: caller.token.digest() };
        let fetch = || {
            let (policy, exchanges) = (Arc::clone(&self.policy), Arc::clone(&self.exchanges));
            let (role, session, token) = (Arc::clone(role), session.clone(), caller.token.clone());
            async move { sts::assume(&policy, &exchanges, &token, &role, &session).await }
        };
        let (keys, receipt) = self.exchanges.keys.get(key, self.policy.sts.place(), fetch).await?;
        let now = self.exchanges.clock.since_epoch();
        let headers = sign::sign(request, &keys, &self.policy.region, &self.policy.service, now)?;
        Ok(Applied::kept(headers, receipt))
    }
}

impl CredentialSource for AwsSts {
    fn name(&self) -> &'static str {
        "aws_sts"
    }

    fn scope(&self, caller: Option<&Subject<'_>>) -> Result<Scope, CredentialError> {
        let caller = known(caller, self.name())?;
        let role = self.policy.roles.choose(caller.identity)?;
        let session = self.policy.session_name(caller.identity)?;
        Ok(scope::of_caller(&self.fingerprint, caller.identity, &[role, &session]))
    }

    fn apply<'a>(
        &'a self,
        caller: Option<&'a Subject<'a>>,
        request: &'a Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Applied, CredentialError>> {
        Box::pin(async move { self.apply_for(known(caller, self.name())?, request).await })
    }

    fn probe<'a>(&'a self, _request: &'a Outgoing<'a>) -> BoxFuture<'a, Result<Applied, CredentialError>> {
        // There is no account of the gateway's own.
        Box::pin(std::future::ready(Ok(Applied::fixed(Vec::new()))))
    }

    fn forget(&self, applied: &Applied) -> bool {
        applied.receipt().is_some_and(|receipt| self.exchanges.keys.forget(receipt))
    }
}
