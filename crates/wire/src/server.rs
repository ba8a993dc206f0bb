//! The client-facing side: detects a request's protocol version, parses the request, and writes results.

mod era;
mod heard;
pub mod notice;
mod param;
mod refusal;
mod request;
mod result;
mod rounds;
mod spelling;

pub use era::{ProtocolFamily, detect_protocol, meta_version};
pub use heard::{ClientNotification, read_notification};
pub use param::{ParamHeader, check_param_headers, find_param_headers};
pub use refusal::Refusal;
pub use request::{ClientRequest, Initialize, ListenFilter, RequestError, RequestMeta, read_request};
pub use result::{
    Cacheability, LARGE_VALUE_BYTES, ListKind, ResultWriter, start_message, supported_versions, write_message,
};
pub use rounds::{MultiRoundRequest, input_required, mcp_name_value, read_input_responses};
