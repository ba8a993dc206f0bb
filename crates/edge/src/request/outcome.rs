//! What comes out of a request.

use vmcp_domain::{Error, Reply};

use crate::http::response::Answer;

/// The result of a request before it is written. A call may last several rounds, and each round has its own
/// request identifier.
#[derive(Debug)]
pub(crate) enum DispatchOutcome {
    /// A prompt, or the questions that end a round.
    Prompt(Result<Reply, Error>),
    /// The result of a tool call. A failed call may be answered with a tool result instead of an error.
    ToolCall {
        /// The result.
        reply: Result<Reply, Error>,
        /// Whether a failed tool result may have `structuredContent` ([`vmcp_wire::error_response::RequestKind::CallTool`]).
        may_be_structured: bool,
    },
    /// A resource that was read.
    Resource(Result<Reply, Error>),
    /// The complete answer of a request without rounds, with the identifier of that request.
    Written(Answer),
    /// An internal failure, such as a panic.
    Failed,
}
