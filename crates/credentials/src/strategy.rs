//! The credential strategies of the configuration file as one type, each with its settings.

use std::sync::Arc;

use crate::aws::{AwsStsPolicy, AwsStsSource};
use crate::error::PolicyError;
use crate::exchange_context::ExchangeContext;
use crate::fixed_headers::FixedHeaders;
use crate::source::CredentialSource;
use crate::token_exchange::TokenExchangePolicy;
use crate::xaa::XaaPolicy;

/// How the gateway authenticates at one backend (`outgoingAuth` in the configuration file).
#[derive(Clone, Debug)]
pub enum Strategy {
    /// No credential.
    Unauthenticated,
    /// A fixed header.
    HeaderInjection(FixedHeaders),
    /// A token that the caller's token is exchanged for.
    TokenExchange(TokenExchangePolicy),
    /// A token obtained in two steps from the caller's ID token.
    Xaa(XaaPolicy),
    /// A signature made with the keys of an AWS role.
    AwsSts(AwsStsPolicy),
    /// A token of the caller's login at an upstream provider. Not supported.
    UpstreamInject,
    /// A token obtained on behalf of the caller from Microsoft Entra. Not supported.
    Obo,
}

impl Strategy {
    /// True when the strategy uses [`ExchangeContext`].
    #[must_use]
    pub fn needs_exchange(&self) -> bool {
        match self {
            Self::TokenExchange(_) | Self::Xaa(_) | Self::AwsSts(_) => true,
            Self::Unauthenticated | Self::HeaderInjection(_) | Self::UpstreamInject | Self::Obo => false,
        }
    }

    /// Builds the source of one backend's credentials.
    ///
    /// # Errors
    /// For `UpstreamInject` and `Obo`, because this gateway has no source for their tokens.
    pub fn build(
        self,
        exchange_context: &Arc<ExchangeContext>,
    ) -> Result<Arc<dyn CredentialSource>, PolicyError> {
        let context = || Arc::clone(exchange_context);
        Ok(match self {
            Self::Unauthenticated => Arc::new(FixedHeaders::none()),
            Self::HeaderInjection(header) => Arc::new(header),
            Self::TokenExchange(policy) => Arc::new(policy.into_source(context())),
            Self::Xaa(policy) => Arc::new(policy.into_source(context())),
            Self::AwsSts(policy) => Arc::new(AwsStsSource::new(policy, context())),
            Self::UpstreamInject => {
                let why = "upstream_inject sends the token of a login at an upstream provider, and this gateway keeps \
                           no such logins; use token_exchange";
                return Err(PolicyError::new("type", why));
            }
            Self::Obo => {
                let why = "obo is not possible in this gateway; use token_exchange with an issuer that supports RFC 8693";
                return Err(PolicyError::new("type", why));
            }
        })
    }
}
