//! Which credential a request to a backend carries, and for whom.
//!
//! A [`CredentialSource`] turns the caller into headers: fixed ones, a token exchanged for the caller's own, or a
//! signature made with keys of an AWS role. The caller's own token is an input of exchanges and never an output.
//! Exchanged credentials are kept in memory, shared between backends that ask for the same, and fetched once however
//! many requests wait for them. Connections, and what to do after a 401, are `vmcp-backends`'; reading keys and the
//! environment is `vmcp`'s.

mod aws;
mod bearer;
mod cache;
mod client;
mod clock;
mod endpoint;
mod error;
mod exchanges;
mod fixed;
mod grant;
mod scope;
mod source;
mod strategy;
mod tls;
mod token_exchange;
mod words;
mod xaa;

pub use aws::{AwsStsPolicy, AwsStsSource, RoleMapping, RoleMatch, Roles};
pub use clock::{Clock, SystemClock};
pub use endpoint::TokenUrl;
pub use error::{CredentialError, PolicyError};
pub use exchanges::ExchangeContext;
pub use fixed::FixedHeaders;
pub use grant::OAuthClient;
pub use source::{CredentialHeaders, CredentialSource, RequestView, Subject};
pub use strategy::Strategy;
pub use token_exchange::TokenExchangePolicy;
pub use vmcp_domain::{IsolationScope, Secret};
pub use xaa::XaaPolicy;
