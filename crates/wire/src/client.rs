//! The backend-facing side: writes requests for one protocol version and parses the responses.

pub(crate) mod capabilities;
pub(crate) mod input_required;
pub(crate) mod mirrored_arguments;
mod request;
pub(crate) mod response;

pub use crate::client::capabilities::{ServerCapability, relayable_capabilities, session_capabilities};
pub use crate::client::input_required::{
    InputRequired, build_continuation, read_input_required, read_url_elicitations,
};
pub use crate::client::mirrored_arguments::{MirrorError, MirroredArgument, read_mirrored_arguments};
pub use crate::client::response::{
    BackendNotification, InitializeInfo, ResponseError, is_stateless_error, question_error, read_discover,
    read_initialize, read_notification, read_page, read_question, read_reply, read_supported_versions,
    sanitize_tool_result,
};
pub use request::{Dialect, HopMeta};
