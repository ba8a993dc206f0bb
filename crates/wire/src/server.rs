//! The side that faces clients: which revision a request speaks, what it asks, and how results are written.

mod request;
mod result;

pub use request::{
    ClientNotice, ClientRequest, Initialize, ListenFilter, RequestFault, RequestHead, Speaks, name_header,
    read_notice, read_request, speaks,
};
pub use result::{Face, ListKind, ResultKind, answered_versions, write_message};
