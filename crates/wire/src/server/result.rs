//! Writes results for clients, with the members that belong to this hop.

use std::time::Duration;

use bytestring::ByteString;
use vmcp_domain::{Overview, ProtocolVersion, Reply, ResultType, TASKS_EXTENSION};
use vmcp_json::{Json, Members};

use crate::{meta, method};

/// The protocol versions that the gateway speaks, newest first.
#[must_use]
pub fn supported_versions() -> &'static [ProtocolVersion] {
    &[
        ProtocolVersion::V2026_07_28,
        ProtocolVersion::V2025_11_25,
        ProtocolVersion::V2025_06_18,
        ProtocolVersion::V2025_03_26,
        ProtocolVersion::V2024_11_05,
    ]
}

/// The list that a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// The list of tools.
    Tools,
    /// The list of resources.
    Resources,
    /// The list of resource templates.
    Templates,
    /// The list of prompts.
    Prompts,
}

impl ListKind {
    /// The member of the result that holds the items.
    #[must_use]
    pub fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Prompts => "prompts",
        }
    }

    /// The method that requests the list.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::Tools => method::TOOLS_LIST,
            Self::Resources => method::RESOURCES_LIST,
            Self::Templates => method::TEMPLATES_LIST,
            Self::Prompts => method::PROMPTS_LIST,
        }
    }
}

/// Whether a result carries caching hints (2026-07-28, Caching, "Cacheable Results").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cacheability {
    /// `resources/read`: the result carries hints.
    Cacheable,
    /// Any other reply of a backend: the result carries no hints.
    NotCacheable,
}

/// From this size on, in bytes, a value of a reply is sent separately instead of being copied into the
/// message.
pub const LARGE_VALUE_BYTES: usize = 32 << 10;

/// The `resultType` of a final result.
const COMPLETE: &str = "complete";

/// Writes results with the gateway's own name and version.
#[derive(Clone, Debug)]
pub struct ResultWriter {
    server_info: Json,
    complete_type: Json,
}

impl ResultWriter {
    /// Builds a writer for this name and version.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self { server_info: meta::implementation(name, version), complete_type: Json::string(COMPLETE) }
    }

    /// Appends the result object of a reply. The first value of [`LARGE_VALUE_BYTES`] or more is left out, so
    /// that it can be sent without a copy. It is returned with its offset in `out`.
    pub fn write_reply(
        &self,
        out: &mut Vec<u8>,
        version: ProtocolVersion,
        kind: Cacheability,
        reply: Reply,
    ) -> Option<(usize, ByteString)> {
        let mut members = reply.members;
        if version.has_sessions() {
            // A backend of 2026-07-28 may return structured content that is not an object. Strict clients of
            // versions with sessions would reject the whole result, and `content` has the same information.
            if members.get("structuredContent").is_some_and(|content| !content.is_object()) {
                members.remove("structuredContent");
            }
            return write_object(out, &members);
        }
        let stage = match &reply.result_type {
            ResultType::Complete => COMPLETE,
            ResultType::InputRequired => "input_required",
            ResultType::Extension(name) => name,
        };
        if kind == Cacheability::Cacheable && reply.result_type == ResultType::Complete {
            put_cache_hints(&mut members, reply.ttl.unwrap_or_default());
        }
        self.add_hop_members(stage, &mut members);
        write_object(out, &members)
    }

    /// Appends the result object of one page of a list. `items` are written unchanged.
    pub fn write_page(
        &self,
        out: &mut Vec<u8>,
        version: ProtocolVersion,
        kind: ListKind,
        items: &[Json],
        next: Option<&str>,
    ) {
        let mut members = Members::new();
        if let Some(next) = next {
            members.insert("nextCursor", Json::string(next));
        }
        if !version.has_sessions() {
            members.insert("resultType", self.complete_type.clone());
            put_cache_hints(&mut members, Duration::ZERO);
            self.add_server_info(&mut members);
        }
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(kind.member().as_bytes());
        out.extend_from_slice(b"\":[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(item.as_str().as_bytes());
        }
        out.push(b']');
        if !members.is_empty() {
            out.push(b',');
            members.write_pairs(out);
        }
        out.push(b'}');
    }

    /// Appends an empty result object (`ping`, `logging/setLevel`, subscriptions of versions with sessions).
    pub fn write_empty(&self, out: &mut Vec<u8>, version: ProtocolVersion) {
        if version.has_sessions() {
            out.extend_from_slice(b"{}");
        } else {
            self.write_members(out, COMPLETE, Members::new());
        }
    }

    /// Appends the result of `initialize`.
    pub fn write_initialize(&self, out: &mut Vec<u8>, version: ProtocolVersion, overview: &Overview) {
        let mut members = Members::new();
        members.insert("protocolVersion", Json::string(version.as_str()));
        members.insert("capabilities", capabilities(overview, true).to_json());
        members.insert("serverInfo", self.server_info.clone());
        if let Some(instructions) = &overview.instructions {
            members.insert("instructions", Json::string(instructions));
        }
        out.extend_from_slice(members.to_json().as_str().as_bytes());
    }

    /// Appends the result of `server/discover`.
    pub fn write_discover(&self, out: &mut Vec<u8>, overview: &Overview) {
        let mut members = Members::new();
        let versions: Vec<&str> = supported_versions().iter().map(|version| version.as_str()).collect();
        if let Ok(versions) = Json::encode(&versions) {
            members.insert("supportedVersions", versions);
        }
        members.insert("capabilities", capabilities(overview, false).to_json());
        if let Some(instructions) = &overview.instructions {
            members.insert("instructions", Json::string(instructions));
        }
        put_cache_hints(&mut members, Duration::ZERO);
        self.write_members(out, COMPLETE, members);
    }

    /// Appends the result that ends a `subscriptions/listen` stream normally.
    pub fn write_listen_end(&self, out: &mut Vec<u8>, subscription: &Json) {
        let mut members = Members::new();
        let hop = [(meta::SUBSCRIPTION_ID.to_owned(), subscription.clone())].into_iter().collect::<Members>();
        meta::insert(&mut members, &hop);
        self.write_members(out, COMPLETE, members);
    }

    fn write_members(&self, out: &mut Vec<u8>, result_type: &str, mut members: Members) {
        self.add_hop_members(result_type, &mut members);
        out.push(b'{');
        members.write_pairs(out);
        out.push(b'}');
    }

    fn add_hop_members(&self, result_type: &str, members: &mut Members) {
        self.add_server_info(members);
        let result_type =
            if result_type == COMPLETE { self.complete_type.clone() } else { Json::string(result_type) };
        members.insert("resultType", result_type);
    }

    /// Adds `serverInfo` to `_meta`, next to the forwarded members.
    fn add_server_info(&self, members: &mut Members) {
        let mut meta = members.get(meta::META).and_then(|json| json.members().ok()).unwrap_or_default();
        meta.insert(meta::SERVER_INFO, self.server_info.clone());
        meta::insert(members, &meta);
    }
}

fn write_object(out: &mut Vec<u8>, members: &Members) -> Option<(usize, ByteString)> {
    out.push(b'{');
    let large_value = members.write_pairs_without_large(out, LARGE_VALUE_BYTES);
    out.push(b'}');
    large_value
}

fn put_cache_hints(members: &mut Members, ttl: Duration) {
    members.insert("ttlMs", Json::integer(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)));
    // A result that depends on the caller's identity must not be shared between callers, and any list may
    // come to depend on it.
    members.insert("cacheScope", Json::string("private"));
}

fn capabilities(overview: &Overview, sessions: bool) -> Members {
    let flag = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_owned(), Json::boolean(true))).collect::<Members>().to_json()
    };
    let mut capabilities = Members::new();
    capabilities.insert("tools", flag(&["listChanged"]));
    let resources: &[&str] =
        if overview.subscriptions { &["subscribe", "listChanged"] } else { &["listChanged"] };
    capabilities.insert("resources", flag(resources));
    capabilities.insert("prompts", flag(&["listChanged"]));
    if overview.completions {
        capabilities.insert("completions", Json::empty_object());
    }
    if overview.tasks && !sessions {
        let tasks: Members = [(TASKS_EXTENSION.to_owned(), Json::empty_object())].into_iter().collect();
        capabilities.insert("extensions", tasks.to_json());
    }
    if overview.logging || sessions {
        capabilities.insert("logging", Json::empty_object());
    }
    capabilities
}

/// Writes one whole message: the result under its identifier.
#[must_use]
pub fn write_message(id: &crate::jsonrpc::Id, size_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    crate::jsonrpc::write_result(id, size_hint, write)
}

/// Writes the start of a message that carries a result. The result value follows, then `}`.
#[must_use]
pub fn start_message(id: &crate::jsonrpc::Id) -> Vec<u8> {
    let mut start = crate::jsonrpc::write_result(id, 0, |_| {});
    start.pop();
    start
}
