//! The scripted server of the testkit with what token endpoints receive and return.

use std::collections::BTreeMap;

use bytes::Bytes;
pub(crate) use vmcp_testkit::web::{
    HttpReply, ReceivedRequest, ScriptedServer, reply_endless, reply_json, serve, serve_sync, with_header,
};

/// What a token endpoint reads from a request.
pub(crate) trait Form {
    /// The fields of the form.
    fn form(&self) -> BTreeMap<String, String>;
}

impl Form for ReceivedRequest {
    fn form(&self) -> BTreeMap<String, String> {
        form_urlencoded::parse(self.text.as_bytes()).into_owned().collect()
    }
}

/// The fields of a form, to compare it with a list.
pub(crate) fn pairs(form: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

pub(crate) fn reply_text(status: u16, body: impl Into<Bytes>) -> HttpReply {
    vmcp_testkit::web::reply_bytes(status, "text/plain", body)
}

/// A response that breaks off in the middle.
pub(crate) fn reply_broken_off() -> HttpReply {
    vmcp_testkit::web::reply_broken_off("{\"access_token\":")
}
