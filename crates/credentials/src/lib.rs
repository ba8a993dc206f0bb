//! Provides the credential that a request to a backend carries.
//!
//! A [`CredentialSource`] turns the caller into headers: fixed ones, a token that the caller's own is
//! exchanged for, or a signature made with the keys of an AWS role. The caller's own token is an input of
//! exchanges and never an output. Exchanged credentials are cached in memory, shared between backends with
//! the same settings, and fetched once for all requests that wait for them. `vmcp-backends` opens connections
//! and handles a 401. `vmcp` reads configuration keys and the environment.

mod aws;
mod cache;
mod error;
mod exchange_context;
mod source;
mod strategy;
mod token_endpoint;
mod token_exchange;
mod validation;
mod xaa;

pub use vmcp_domain::{IsolationScope, Secret};

pub use crate::exchange_context::ExchangeContext;
pub use crate::source::fixed_headers::FixedHeaders;
pub use crate::token_endpoint::token_request::OAuthClient;
pub use crate::token_endpoint::token_url::TokenUrl;
pub use aws::{AwsStsPolicy, AwsStsSource, RoleMapping, RoleMatch, Roles};
pub use error::{CredentialError, PolicyError};
pub use source::{CredentialHeaders, CredentialSource, RequestView, Subject};
pub use strategy::Strategy;
pub use token_exchange::TokenExchangePolicy;
pub use xaa::XaaPolicy;
