//! The HTTPS client of all outgoing requests: to backends, token endpoints, issuers and embedding services.
//!
//! It contains what must not differ between them: which certificate authorities are trusted ([`Trust`]),
//! which addresses may be connected to ([`AddressPolicy`]), how connections are pooled, which headers only
//! the gateway writes ([`is_owned_header`]), and how a body is read within a limit ([`read_body`]). Its users
//! decide what a request means, how long it may take and whether it is sent again.

mod addresses;
mod body;
mod client;
mod error;
mod headers;
mod tls;

pub use addresses::{AddressError, AddressPolicy, GuardedResolver, is_localhost, is_public};
pub use body::read_body;
pub use client::{
    ClientSettings, HttpClient, IDLE_TIMEOUT, IDLE_TIMEOUT_TLS, RuntimeExecutor, TcpConnector, USER_AGENT,
};
pub use error::{ConnectFault, RequestError, error_chain};
pub use headers::{is_forwardable_header, is_owned_header};
pub use tls::{TlsError, Trust, check_ca_bundle};
