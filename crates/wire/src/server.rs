//! The side that faces clients: which revision a request speaks, what it asks, and how results are written.

mod era;
mod heard;
pub mod notice;
mod param;
mod refusal;
mod request;
mod result;
mod rounds;
mod spelling;

pub use era::{Speaks, named_version, speaks};
pub use heard::{ClientNotice, read_notice};
pub use param::{ParamHeader, check_params, param_headers};
pub use refusal::Refusal;
pub use request::{ClientRequest, Initialize, ListenFilter, RequestFault, RequestHead, read_request};
pub use result::{Face, LARGE_BYTES, ListKind, ResultKind, answered_versions, open_message, write_message};
pub use rounds::{InRounds, input_required, name_header, read_input_responses};
