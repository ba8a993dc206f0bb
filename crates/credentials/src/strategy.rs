//! The credential strategies of the configuration file as one type, each with its settings.

use std::sync::Arc;

use crate::aws::{AwsStsPolicy, AwsStsSource};
use crate::exchange_context::ExchangeContext;
use crate::source::CredentialSource;
use crate::source::fixed_headers::FixedHeaders;
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
}

impl Strategy {
    /// The name in the configuration file and in `/status`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::HeaderInjection(_) => "header_injection",
            Self::TokenExchange(_) => "token_exchange",
            Self::Xaa(_) => "xaa",
            Self::AwsSts(_) => "aws_sts",
        }
    }

    /// Builds the source of one backend's credentials.
    #[must_use]
    pub fn build(self, exchange_context: &Arc<ExchangeContext>) -> Arc<dyn CredentialSource> {
        let context = || Arc::clone(exchange_context);
        match self {
            Self::Unauthenticated => Arc::new(FixedHeaders::none()),
            Self::HeaderInjection(header) => Arc::new(header),
            Self::TokenExchange(policy) => Arc::new(policy.into_source(context())),
            Self::Xaa(policy) => Arc::new(policy.into_source(context())),
            Self::AwsSts(policy) => Arc::new(AwsStsSource::new(policy, context())),
        }
    }
}
