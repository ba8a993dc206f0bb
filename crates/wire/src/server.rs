//! The client-facing side: detects a request's protocol version, parses the request, and writes results.

pub(crate) mod input_required;
pub(crate) mod member_names;
pub(crate) mod notification;
pub mod outgoing;
pub(crate) mod param_headers;
pub(crate) mod protocol;
mod refusal;
mod request;
mod request_error;
mod result;

pub use crate::server::input_required::{
    MultiRoundRequest, input_required, mcp_name_value, read_input_responses,
};
pub use crate::server::notification::{ClientNotification, read_notification};
pub use crate::server::param_headers::{ParamHeader, check_param_headers, find_param_headers};
pub use crate::server::protocol::{ProtocolFamily, detect_protocol, meta_version};
pub use refusal::Refusal;
pub use request::{ClientRequest, Initialize, ListenFilter, RequestMeta, read_request};
pub use request_error::RequestError;
pub use result::{
    Cacheability, LARGE_VALUE_BYTES, ListKind, ResultWriter, start_message, supported_versions, write_message,
};
