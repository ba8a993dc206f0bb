//! Detects the protocol version of a request.

use serde::Deserialize;
use vmcp_domain::ProtocolVersion;
use vmcp_json::Json;

use crate::{meta, method};

/// The rules by which a request is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolFamily {
    /// A version with sessions: the one that the header names, if there is a header.
    Sessions(Option<ProtocolVersion>),
    /// 2026-07-28, which has no sessions.
    Stateless,
    /// A version that the gateway does not know.
    Unknown(String),
}

/// Detects the protocol version from the header and the body of a request (2026-07-28, Versioning, "Backward
/// Compatibility with Initialization-Based Versions").
///
/// `initialize` belongs to the versions with sessions. The exception is a request with the header of
/// 2026-07-28 and no `protocolVersion` parameter: that is no handshake, and the method does not exist in
/// 2026-07-28. An explicit header has precedence over `_meta` keys.
#[must_use]
pub fn detect_protocol(header: Option<&str>, method: &str, params: Option<&Json>) -> ProtocolFamily {
    if method == method::INITIALIZE {
        let stateless =
            header == Some(ProtocolVersion::V2026_07_28.as_str()) && !has_protocol_version(params);
        return if stateless { ProtocolFamily::Stateless } else { ProtocolFamily::Sessions(None) };
    }
    match header.map(|date| (date, ProtocolVersion::parse(date))) {
        Some((_, Some(version))) if version.has_sessions() => ProtocolFamily::Sessions(Some(version)),
        Some((_, Some(_))) => ProtocolFamily::Stateless,
        Some((date, None)) => ProtocolFamily::Unknown(date.to_owned()),
        None if has_request_meta(params) => ProtocolFamily::Stateless,
        None => ProtocolFamily::Sessions(None),
    }
}

fn has_protocol_version(params: Option<&Json>) -> bool {
    params
        .and_then(|params| params.members().ok())
        .is_some_and(|params| params.get("protocolVersion").is_some())
}

fn request_meta(params: Option<&Json>) -> Option<Json> {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "_meta", default)]
        meta: Option<Json>,
    }
    params?.decode::<Probe>().ok()?.meta
}

fn has_request_meta(params: Option<&Json>) -> bool {
    let members = request_meta(params).and_then(|meta| meta.members().ok());
    members.is_some_and(|meta| {
        [meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES]
            .iter()
            .any(|key| meta.get(key).is_some())
    })
}

/// The protocol version that the `_meta` of a 2026-07-28 body names, if any.
#[must_use]
pub fn meta_version(params: Option<&Json>) -> Option<String> {
    request_meta(params)?.members().ok()?.get(meta::PROTOCOL_VERSION)?.decode_string()
}
