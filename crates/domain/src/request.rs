//! One request: who makes it, in which version, with which budget, and the channel back to its client.

pub(crate) mod caller;
pub(crate) mod client_key;
pub(crate) mod client_port;
pub(crate) mod context;
pub(crate) mod credential;
pub(crate) mod message;
pub(crate) mod reservation;
pub(crate) mod reserve_budget;
pub(crate) mod run;
pub(crate) mod scope;
pub(crate) mod secret;
pub(crate) mod version;
pub(crate) mod work_hold;
