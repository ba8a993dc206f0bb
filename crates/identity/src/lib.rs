//! Authenticates callers by bearer credentials: signed tokens of an OpenID Connect issuer, opaque tokens that
//! the issuer introspects, and API keys for machines.
//!
//! The crate's entry point is [`vmcp_domain::Authenticator::authenticate`]. The edge writes refusals to the
//! wire, and later layers decide what a caller may do. The gateway supplies the settings.

mod api_key;
mod authenticator;
mod bearer_policy;
mod bearer_token;
mod discovery;
mod fetcher;
mod introspection;
mod jwt;
pub mod policy;
mod token_cache;

pub use self::api_key::{API_KEY_ISSUER, ApiKey, NewApiKey, hash_api_key, new_api_key};
pub use self::authenticator::BearerAuthenticator;
pub use self::bearer_policy::{BearerPolicy, SetupError};
