//! `_meta`: which keys belong to one hop and are rewritten there, and which are forwarded. Source:
//! 2026-07-28, Overview, "`_meta`".

use vmcp_json::{Json, Members};

/// The name of the member itself.
pub const META: &str = "_meta";
/// The protocol version of a request.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The client's name and version.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// The client's capabilities.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The least severe log message that the client wants.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// The server's name and version.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// The subscription that a notification belongs to.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// The token under which the client wants progress notifications.
pub const PROGRESS_TOKEN: &str = "progressToken";

/// The keys that are rewritten at every hop.
const HOP_KEYS: [&str; 7] = [
    PROTOCOL_VERSION,
    CLIENT_INFO,
    CLIENT_CAPABILITIES,
    LOG_LEVEL,
    SERVER_INFO,
    SUBSCRIPTION_ID,
    PROGRESS_TOKEN,
];

/// The namespace that the specification reserves.
const RESERVED_PREFIX: &str = "io.modelcontextprotocol/";

/// A `_meta` object, split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Members for this hop only, under their full names.
    pub hop: Members,
    /// Members that are forwarded.
    pub forwarded: Members,
}

/// `_meta` exists but is not an object, or has too many members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`_meta` must be an object of at most {} members", Json::MEMBERS_MAX)]
pub struct NotAnObject;

/// Removes `_meta` from parameters or from a result, and splits it. Without `_meta` both parts are empty.
///
/// # Errors
/// When `_meta` exists but is not an object. It is removed all the same.
pub fn extract(members: &mut Members) -> Result<Meta, NotAnObject> {
    Ok(Meta::split(extract_members(members)?))
}

/// Removes `_meta` from parameters or from a result without splitting it. Without `_meta` there are no
/// members.
///
/// # Errors
/// As [`extract`].
pub fn extract_members(members: &mut Members) -> Result<Members, NotAnObject> {
    members.remove(META).map_or_else(|| Ok(Members::new()), |json| json.members().map_err(|_| NotAnObject))
}

impl Meta {
    /// Splits the members of a `_meta` object.
    #[must_use]
    pub fn split(mut forwarded: Members) -> Self {
        // One pass: a peer may send very many members, and a search for each among the others would take
        // minutes.
        let hop = forwarded.extract_if(|key, _| HOP_KEYS.contains(&key));
        Self { hop, forwarded }
    }
}

/// Removes the keys that have no meaning to a peer of a version with sessions: everything in the reserved
/// namespace.
pub fn strip_reserved(meta: &mut Members) {
    meta.retain(|key, _| !key.starts_with(RESERVED_PREFIX));
}

/// Sets `_meta` of parameters or of a result, unless it is empty.
pub fn insert(members: &mut Members, meta: &Members) {
    if !meta.is_empty() {
        members.insert(META, meta.to_json());
    }
}

/// Builds the `{"name":…,"version":…}` object for `clientInfo` and `serverInfo`.
#[must_use]
pub fn implementation(name: &str, version: &str) -> Json {
    [("name".to_owned(), Json::string(name)), ("version".to_owned(), Json::string(version))]
        .into_iter()
        .collect::<Members>()
        .to_json()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn extracted(meta: &str) -> Meta {
        let params = Json::parse(format!("{{\"_meta\":{meta},\"x\":1}}")).unwrap();
        extract(&mut params.members().unwrap()).unwrap()
    }

    #[test]
    fn hop_keys_are_told_from_those_that_travel() {
        let meta =
            extracted(r#"{"a":1,"progressToken":2,"io.modelcontextprotocol/logLevel":"info","b":{},"a":3}"#);
        assert_eq!(
            meta.hop.to_json().as_str(),
            r#"{"progressToken":2,"io.modelcontextprotocol/logLevel":"info"}"#
        );
        assert_eq!(meta.forwarded.to_json().as_str(), r#"{"a":1,"b":{},"a":3}"#);
    }

    #[test]
    fn very_many_members_take_no_longer_than_reading_them() {
        let object = |count: usize| {
            let members: Vec<String> = (0..count).map(|number| format!("\"k{number}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        let begun = Instant::now();
        assert_eq!(extracted(&object(Json::MEMBERS_MAX)).forwarded.len(), Json::MEMBERS_MAX);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        // An object with more members is rejected.
        let params = Json::parse(format!("{{\"_meta\":{}}}", object(Json::MEMBERS_MAX + 1))).unwrap();
        assert_eq!(extract(&mut params.members().unwrap()), Err(NotAnObject));
    }
}
