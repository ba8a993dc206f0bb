//! Request handling shared by all protocol versions and transports: admission, dispatch, list pages, and
//! messages to the client.

pub(crate) mod admission;
pub(crate) mod answer_memory;
pub(crate) mod changes;
pub(crate) mod classify;
pub(crate) mod client_port;
pub(crate) mod dispatch;
pub(crate) mod in_flight;
pub(crate) mod list_pages;
pub(crate) mod memory_permit;
pub(crate) mod message_sender;
pub(crate) mod outcome;
pub(crate) mod param_headers;
pub(crate) mod session_messages;
pub(crate) mod slots;
pub(crate) mod structured_tools;
