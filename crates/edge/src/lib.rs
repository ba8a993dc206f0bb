//! Transports towards clients: HTTP for both protocol eras on one listener, and stdio; sessions live here and
//! nowhere else.
//!
//! It turns bytes into calls on the [`vmcp_domain::Gateway`] seam and answers back into bytes. It knows no layer:
//! what is allowed, limited or merged is decided behind the seam.

mod admin;
mod admission;
mod answer_room;
mod body;
mod changes;
mod cors;
mod dialogue;
mod dispatch;
mod edge;
mod entrance;
mod flight;
mod guard;
mod head_timer;
mod lingering;
mod listen;
mod listener;
mod named;
mod observed;
mod pages;
mod params;
mod parking;
mod patience;
mod peer;
pub mod policy;
mod port;
mod post;
mod reply;
mod room;
mod rounds;
mod seal;
mod session;
mod site;
mod spool;
mod stall_guard;
mod stateless;
mod stdio;
mod stream;
mod tasks;
mod threads;

pub use self::admin::{AccessLevel, AdminListener, AdminPage, AdminPages};
pub use self::listener::HttpEdge;
pub use self::observed::{ObservedRequest, RequestObserver};
pub use self::stdio::{StopSignals, serve_stdio};
