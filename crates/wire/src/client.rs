//! The side that faces backends: requests written for one protocol version, answers read back.

mod ability;
mod answer;
mod mirror;
mod request;
mod rounds;

pub use ability::{Offer, relayable, session_capabilities};
pub use answer::{
    AnswerFault, BackendNotice, Introduction, answer_question, mend_tool_result, read_discover,
    read_initialize, read_notice, read_page, read_question, read_reply, speaks_2026_07_28,
    supported_versions,
};
pub use mirror::{MirrorFault, Mirrored, read_mirrored};
pub use request::{Dialect, Hop};
pub use rounds::{InputRequired, continuation, read_input_required, read_visits};
