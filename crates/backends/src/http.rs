//! HTTP towards backends: the client, its connections, and what a request carries. The MCP transports that
//! use it are in `transport`.

pub(crate) mod client;
pub(crate) mod content_coding;
pub(crate) mod endpoint;
pub(crate) mod outbound;
pub(crate) mod redirect;
pub(crate) mod request_credentials;
pub(crate) mod response_body;
pub(crate) mod response_reader;
pub(crate) mod retry_after;
