//! Transports towards clients: HTTP for both protocol eras on one listener, and stdio; sessions live here and
//! nowhere else.
//!
//! It turns bytes into calls on the [`vmcp_domain::Gateway`] seam and answers back into bytes. It knows no layer:
//! what is allowed, limited or merged is decided behind the seam.

mod admin;
mod connection;
mod http;
pub mod policy;
mod request;
mod sessions;
mod state;
mod stdio;
mod v2026_07_28;

pub use self::admin::{AccessLevel, AdminListener, AdminPage, AdminPages};
pub use self::stdio::{StopSignals, serve_stdio};
pub use crate::connection::listener::HttpEdge;
pub use crate::http::request_observer::{ObservedRequest, RequestObserver};
