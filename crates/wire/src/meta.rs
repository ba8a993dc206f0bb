//! `_meta`: which keys belong to one hop and are rewritten there, and which travel.
//! Source: 2026-07-28, Overview, "`_meta`".

use vmcp_domain::{Json, Members};

/// The member's own name.
pub const META: &str = "_meta";
/// The revision a request speaks.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Who the client is.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// What the client can do.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The least severe log message the client wants.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Who the server is.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// Which subscription a notification belongs to.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// Asks for progress.
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

/// The namespace the specification keeps for itself.
const RESERVED_PREFIX: &str = "io.modelcontextprotocol/";

/// A `_meta` object taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Members of this hop only, under their own names.
    pub hop: Members,
    /// Members that travel on.
    pub forwarded: Members,
}

/// `_meta` is there but not an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`_meta` must be an object of at most {} members", Json::MEMBERS_MAX)]
pub struct NotAnObject;

/// Takes `_meta` out of parameters or of a result and splits it. Something that is not an object counts as empty
/// and is reported as `Err`.
///
/// # Errors
/// When `_meta` is there but not an object; nothing of it is kept.
pub fn extract(members: &mut Members) -> Result<Meta, NotAnObject> {
    Ok(Meta::split(extract_members(members)?))
}

/// Takes `_meta` out of parameters or of a result without splitting it. Without `_meta` there are no members.
///
/// # Errors
/// As [`extract`].
pub fn extract_members(members: &mut Members) -> Result<Members, NotAnObject> {
    members.remove(META).map_or_else(|| Ok(Members::new()), |json| json.members().map_err(|_| NotAnObject))
}

impl Meta {
    /// Splits the members of a `_meta` object.
    #[must_use]
    pub fn split(mut travelling: Members) -> Self {
        // One pass: a peer may send a million members, and looking for each among the others would take minutes.
        let hop = travelling.extract_if(|key, _| HOP_KEYS.contains(&key));
        Self { hop, forwarded: travelling }
    }
}

/// Removes the keys that mean nothing to a peer of the session era: everything in the reserved namespace.
pub fn strip_reserved(meta: &mut Members) {
    meta.retain(|key, _| !key.starts_with(RESERVED_PREFIX));
}

/// Puts `_meta` onto parameters or a result, unless there is nothing to put.
pub fn insert(members: &mut Members, meta: &Members) {
    if !meta.is_empty() {
        members.insert(META, meta.to_json());
    }
}

/// The `{"name":…,"version":…}` object both `clientInfo` and `serverInfo` are.
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
        // More are not taken apart.
        let params = Json::parse(format!("{{\"_meta\":{}}}", object(Json::MEMBERS_MAX + 1))).unwrap();
        assert_eq!(extract(&mut params.members().unwrap()), Err(NotAnObject));
    }
}
