//! The backend-facing side: writes requests for one protocol version and parses the responses.

mod ability;
mod answer;
mod mirror;
mod request;
mod rounds;

pub use ability::{ServerCapability, relayable_capabilities, session_capabilities};
pub use answer::{
    BackendNotification, InitializeInfo, ResponseError, is_stateless_error, question_error, read_discover,
    read_initialize, read_notification, read_page, read_question, read_reply, read_supported_versions,
    sanitize_tool_result,
};
pub use mirror::{MirrorError, MirroredArgument, read_mirrored_arguments};
pub use request::{Dialect, HopMeta};
pub use rounds::{InputRequired, build_continuation, read_input_required, read_url_elicitations};
