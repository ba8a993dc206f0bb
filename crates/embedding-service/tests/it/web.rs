//! The scripted server of the testkit with what embedding services receive and return.

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;
pub(crate) use vmcp_testkit::web::{
    HttpReply, ReceivedRequest, ScriptedServer, reply_endless, serve, serve_sync, with_header,
};

/// The requests that carry texts.
pub(crate) fn posts(server: &ScriptedServer) -> Vec<ReceivedRequest> {
    server.requests().into_iter().filter(|request| request.http_method == Method::POST).collect()
}

pub(crate) fn reply_text(status: u16, body: impl Into<Bytes>) -> HttpReply {
    vmcp_testkit::web::reply_bytes(status, "application/json", body)
}

pub(crate) fn reply_json(status: u16, body: &Value) -> HttpReply {
    vmcp_testkit::web::reply_json(status, body)
}

/// A response that breaks off after its first bytes.
pub(crate) fn reply_broken_off() -> HttpReply {
    vmcp_testkit::web::reply_broken_off("[[1.0,")
}

/// A response that announces a length and sends nothing.
pub(crate) fn reply_announced(length: u64) -> HttpReply {
    let reply = HttpReply::new(StreamBody::new(futures_util::stream::pending()).boxed());
    with_header(reply, "content-length", &length.to_string())
}
