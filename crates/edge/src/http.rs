//! HTTP towards clients: routing, guards, authentication, bodies, event streams and responses. `connection`
//! owns the listener; `sessions` and `v2026_07_28` implement the protocol versions.

pub(crate) mod authenticated_peer;
pub(crate) mod authentication;
pub(crate) mod body;
pub(crate) mod client_address;
pub(crate) mod cors;
pub(crate) mod event_buffer;
pub(crate) mod event_stream;
pub(crate) mod guard;
pub(crate) mod post;
pub(crate) mod protocol_headers;
pub(crate) mod request_observer;
pub(crate) mod response;
pub(crate) mod router;
pub(crate) mod session_requests;
