//! The strategies of the config file as one type, each with its own settings.

use std::sync::Arc;

use crate::aws::{AwsStsPolicy, AwsStsSource};
use crate::error::PolicyError;
use crate::exchanges::ExchangeContext;
use crate::fixed::FixedHeaders;
use crate::source::CredentialSource;
use crate::token_exchange::TokenExchangePolicy;
use crate::xaa::XaaPolicy;

/// How the gateway proves itself to one backend (`outgoingAuth` of the config file).
#[derive(Clone, Debug)]
pub enum Strategy {
    /// Not at all.
    Unauthenticated,
    /// With a fixed header.
    HeaderInjection(FixedHeaders),
    /// With a token exchanged for the caller's.
    TokenExchange(TokenExchangePolicy),
    /// With a token got in two steps from the caller's ID token.
    Xaa(XaaPolicy),
    /// With a signature made with keys of an AWS role.
    AwsSts(AwsStsPolicy),
    /// With a token of the caller's login at an upstream provider.
    UpstreamInject,
    /// With a token got on behalf of the caller from Microsoft Entra.
    Obo,
}

impl Strategy {
    /// True when the strategy needs [`ExchangeContext`].
    #[must_use]
    pub fn needs_exchange(&self) -> bool {
        match self {
            Self::TokenExchange(_) | Self::Xaa(_) | Self::AwsSts(_) => true,
            Self::Unauthenticated | Self::HeaderInjection(_) | Self::UpstreamInject | Self::Obo => false,
        }
    }

    /// The source of one backend's credentials.
    ///
    /// # Errors
    /// For the two strategies whose tokens have no source in this gateway.
    pub fn build(self, exchanges: &Arc<ExchangeContext>) -> Result<Arc<dyn CredentialSource>, PolicyError> {
        let shared = || Arc::clone(exchanges);
        Ok(match self {
            Self::Unauthenticated => Arc::new(FixedHeaders::none()),
            Self::HeaderInjection(header) => Arc::new(header),
            Self::TokenExchange(policy) => Arc::new(policy.into_source(shared())),
            Self::Xaa(policy) => Arc::new(policy.into_source(shared())),
            Self::AwsSts(policy) => Arc::new(AwsStsSource::new(policy, shared())),
            Self::UpstreamInject => {
                let why = "upstream_inject sends the token of a login at an upstream provider, and this gateway keeps \
                           no such logins; use token_exchange";
                return Err(PolicyError::new("type", why));
            }
            Self::Obo => {
                let why = "obo is not possible in this gateway; use token_exchange at an issuer that speaks RFC 8693";
                return Err(PolicyError::new("type", why));
            }
        })
    }
}
