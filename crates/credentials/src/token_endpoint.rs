//! Token endpoints: their addresses, the requests to them, and their responses.

pub(crate) mod token_client;
pub(crate) mod token_request;
pub(crate) mod token_url;
