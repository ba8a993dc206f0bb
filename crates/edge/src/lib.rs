//! Transports towards clients: HTTP, with versions with sessions and 2026-07-28 on one listener, and stdio.
//! Sessions exist only in this crate.
//!
//! This crate converts bytes into calls on the [`vmcp_domain::Gateway`] trait, and the results back into
//! bytes. The layers behind that trait decide what is allowed, limited or merged.

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
pub use crate::connection::listener::{HttpEdge, ListenSocket};
pub use crate::http::request_observer::{ObservedRequest, RequestObserver};
pub use crate::v2026_07_28::seal::{Forged, Seal};
