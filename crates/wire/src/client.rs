//! The side that faces backends: requests written for one protocol version, answers read back.

mod answer;
mod request;

pub use answer::{
    AnswerFault, BackendNotice, Introduction, answer_question, read_discover, read_initialize, read_notice,
    read_page, read_question, read_reply, speaks_2026_07_28,
};
pub use request::{Dialect, Hop};
