//! Turns what a client presents into a caller: signed tokens of an OpenID Connect issuer, opaque tokens that the
//! issuer is asked about, and API keys for machines.
//!
//! It answers one question, [`vmcp_domain::Authenticator::authenticate`]. How a refusal looks on the wire is the
//! edge's; what a caller may do is decided by the layers behind it. Where settings come from is the gateway's.

mod api_key;
mod authenticator;
mod bearer;
mod cache;
mod claims;
mod clock;
mod discovery;
mod fetch;
pub mod guard;
mod introspection;
mod jwt;
mod key_set;
mod key_store;
pub mod policy;
mod question_queue;
mod signature;
mod tls;

pub use self::api_key::{API_KEY_ISSUER, ApiKey, NewApiKey, hash_api_key, new_api_key};
pub use self::authenticator::{BearerAuthenticator, SetupError};
pub use self::clock::{Clock, SystemClock};
