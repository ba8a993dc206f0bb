//! Parses requests of clients for one protocol version.

use std::borrow::Cow;

use serde::Deserialize;
use vmcp_domain::{
    CallTool, Complete, CompletionReference, Continuation, GetPrompt, LogLevel, ProtocolVersion,
    ReadResource, ResourceUri, TaskOperation,
};
use vmcp_json::{Json, Members};

use crate::jsonrpc::Id;
use crate::server::member_names;
use crate::server::request_error::RequestError;
use crate::{meta, method};

/// A request of a client.
#[derive(Clone, Debug)]
pub enum ClientRequest {
    /// `initialize`: opens a session.
    Initialize(Initialize),
    /// `ping`.
    Ping,
    /// `server/discover`.
    Discover,
    /// `tools/list`, from this cursor on.
    ListTools(Option<String>),
    /// `tools/call`.
    CallTool(CallTool),
    /// `resources/list`, from this cursor on.
    ListResources(Option<String>),
    /// `resources/templates/list`, from this cursor on.
    ListResourceTemplates(Option<String>),
    /// `resources/read`.
    ReadResource(ReadResource),
    /// `prompts/list`, from this cursor on.
    ListPrompts(Option<String>),
    /// `prompts/get`.
    GetPrompt(GetPrompt),
    /// `completion/complete`.
    Complete(Complete),
    /// A task operation with the task identifier that the client knows (tasks extension).
    Task(TaskOperation, String, Members),
    /// `logging/setLevel`: requests log messages of at least this severity.
    SetLogLevel(LogLevel),
    /// `resources/subscribe`: requests notifications when a resource changes.
    Subscribe(ResourceUri),
    /// `resources/unsubscribe`.
    Unsubscribe(ResourceUri),
    /// `subscriptions/listen`: opens a stream of change notifications.
    Listen(ListenFilter),
}

/// The parameters of `initialize`.
#[derive(Clone, Debug)]
pub struct Initialize {
    /// The version that the client requests.
    pub version: String,
    /// The client's capabilities.
    pub capabilities: Members,
    /// The client's name and version, as it states them.
    pub client_info: Option<Json>,
}

/// The changes that a client wants to be notified of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenFilter {
    /// The list of tools.
    pub tools_list_changed: bool,
    /// The list of prompts.
    pub prompts_list_changed: bool,
    /// The list of resources.
    pub resources_list_changed: bool,
    /// Resources to watch for changed content, by URI.
    pub resource_subscriptions: Vec<String>,
    /// Tasks to watch for changed state (tasks extension).
    pub task_ids: Vec<String>,
}

/// What a request's `_meta` says to this hop, and the members that are forwarded.
#[derive(Clone, Debug, Default)]
pub struct RequestMeta {
    /// The protocol version that the body names (2026-07-28).
    pub version: Option<String>,
    /// The client's capabilities (2026-07-28; with sessions they are known from `initialize`).
    pub capabilities: Option<Members>,
    /// The least severe log message that the client wants (2026-07-28).
    pub log_level: Option<LogLevel>,
    /// The token for progress notifications.
    pub progress_token: Option<Json>,
    /// The members that are forwarded.
    pub forwarded: Members,
}

/// The error for a member that is not an object, or has too many members.
fn not_an_object(name: &str) -> RequestError {
    invalid(format!("`{name}` must be an object of at most {} members", Json::MEMBERS_MAX))
}

fn invalid(text: impl Into<String>) -> RequestError {
    RequestError::InvalidParams(text.into())
}

/// Parses a request of a client that speaks `version`.
///
/// # Errors
/// When the method does not exist in that version, or the parameters are invalid.
pub fn read_request(
    version: ProtocolVersion,
    name: &str,
    params: Option<&Json>,
) -> Result<(ClientRequest, RequestMeta), RequestError> {
    let (mut params, meta) = read_envelope(version, params).map_err(|fault| match fault {
        RequestError::InvalidParams(text) => RequestError::InvalidEnvelope(text),
        RequestError::UnknownMethod(_)
        | RequestError::InvalidEnvelope(_)
        | RequestError::UnsupportedVersion(_) => fault,
    })?;
    let request = match name {
        method::TOOLS_LIST => ClientRequest::ListTools(optional_cursor(&params)?),
        method::TOOLS_CALL => ClientRequest::CallTool(read_call(params)?),
        method::RESOURCES_LIST => ClientRequest::ListResources(optional_cursor(&params)?),
        method::TEMPLATES_LIST => ClientRequest::ListResourceTemplates(optional_cursor(&params)?),
        method::RESOURCES_READ => {
            let uri = required_text(&mut params, "uri")?.into();
            let continuation = read_continuation(&mut params)?;
            ClientRequest::ReadResource(ReadResource { uri, continuation, extra: params })
        }
        method::PROMPTS_LIST => ClientRequest::ListPrompts(optional_cursor(&params)?),
        method::PROMPTS_GET => {
            let name = required_text(&mut params, "name")?.into();
            let arguments = optional_object(&mut params, "arguments")?;
            let continuation = read_continuation(&mut params)?;
            ClientRequest::GetPrompt(GetPrompt { name, arguments, continuation, extra: params })
        }
        method::COMPLETE => ClientRequest::Complete(read_complete(params)?),
        method::PING => ClientRequest::Ping,
        method::DISCOVER => ClientRequest::Discover,
        _ => return read_version_request(version, name, params).map(|request| (request, meta)),
    };
    Ok((request, meta))
}

/// Splits the parameters into the request's own and the metadata for this hop.
fn read_envelope(
    version: ProtocolVersion,
    params: Option<&Json>,
) -> Result<(Members, RequestMeta), RequestError> {
    let mut params = match params {
        None => Members::new(),
        Some(params) if params.is_null() => Members::new(),
        Some(params) => params.members().map_err(|_| not_an_object("params"))?,
    };
    member_names::check("params", &params, member_names::PARAMS)?;
    // Some clients write `null` for an absent member. Backends never receive it.
    params.retain(|name, value| !(value.is_null() && member_names::PARAMS.contains(&name)));
    let meta = read_meta(&mut params)?;
    if !version.has_sessions() {
        check_meta(&meta)?;
    }
    Ok((params, meta))
}

/// Parses the methods that exist only with sessions, or only in 2026-07-28.
fn read_version_request(
    version: ProtocolVersion,
    name: &str,
    mut params: Members,
) -> Result<ClientRequest, RequestError> {
    match (name, version.has_sessions()) {
        (method::INITIALIZE, true) => {
            let version = required_text(&mut params, "protocolVersion")?;
            member_names::check_member("clientInfo", &params, member_names::CLIENT_INFO)?;
            let capabilities = params.remove("capabilities").map(|json| json.members()).transpose();
            let capabilities = capabilities.map_err(|_| not_an_object("capabilities"))?.unwrap_or_default();
            Ok(ClientRequest::Initialize(Initialize {
                version,
                capabilities,
                client_info: params.remove("clientInfo"),
            }))
        }
        (method::SET_LEVEL, true) => {
            let level = required_text(&mut params, "level")?;
            let level =
                LogLevel::parse(&level).ok_or_else(|| invalid(format!("`level` must not be \"{level}\"")))?;
            Ok(ClientRequest::SetLogLevel(level))
        }
        (method::RESOURCES_SUBSCRIBE, true) => {
            Ok(ClientRequest::Subscribe(required_text(&mut params, "uri")?.into()))
        }
        (method::RESOURCES_UNSUBSCRIBE, true) => {
            Ok(ClientRequest::Unsubscribe(required_text(&mut params, "uri")?.into()))
        }
        (method::TASKS_GET, false) => read_task(TaskOperation::Get, params),
        (method::TASKS_UPDATE, false) => read_task(TaskOperation::Update, params),
        (method::TASKS_CANCEL, false) => read_task(TaskOperation::Cancel, params),
        (method::LISTEN, false) => {
            let filter =
                params.remove("notifications").ok_or_else(|| invalid("`notifications` is required"))?;
            let mut filter = filter.members().map_err(|_| not_an_object("notifications"))?;
            filter.retain(|_, value| !value.is_null());
            let filter =
                filter.to_json().decode().map_err(|error| invalid(format!("`notifications`: {error}")))?;
            Ok(ClientRequest::Listen(filter))
        }
        _ => Err(RequestError::UnknownMethod(name.to_owned())),
    }
}

fn read_task(operation: TaskOperation, mut params: Members) -> Result<ClientRequest, RequestError> {
    let id = required_text(&mut params, "taskId")?;
    if operation == TaskOperation::Update && !params.get("inputResponses").is_some_and(Json::is_object) {
        return Err(invalid("`inputResponses` is required and must be an object"));
    }
    Ok(ClientRequest::Task(operation, id, params))
}

fn read_meta(params: &mut Members) -> Result<RequestMeta, RequestError> {
    let meta = meta::extract_members(params).map_err(|fault| invalid(fault.to_string()))?;
    member_names::check(meta::META, &meta, member_names::META)?;
    let mut meta = meta::Meta::split(meta);
    meta.hop.retain(|_, value| !value.is_null());
    let hop = &meta.hop;
    member_names::check_member(meta::CLIENT_INFO, hop, member_names::CLIENT_INFO)?;
    let capabilities = match hop.get(meta::CLIENT_CAPABILITIES) {
        None => None,
        Some(json) => Some(json.members().map_err(|_| not_an_object(meta::CLIENT_CAPABILITIES))?),
    };
    let progress_token = hop.get(meta::PROGRESS_TOKEN).cloned();
    if progress_token.as_ref().is_some_and(|token| Id::from_json(token.clone()).is_none()) {
        return Err(invalid("`progressToken` must be a string or a number"));
    }
    Ok(RequestMeta {
        version: hop.get(meta::PROTOCOL_VERSION).and_then(Json::decode_string),
        capabilities,
        log_level: hop
            .get(meta::LOG_LEVEL)
            .and_then(Json::decode_string)
            .as_deref()
            .and_then(LogLevel::parse),
        progress_token,
        forwarded: meta.forwarded,
    })
}

/// Checks the members that every request of 2026-07-28 must carry in its body.
fn check_meta(meta: &RequestMeta) -> Result<(), RequestError> {
    match &meta.version {
        None => return Err(invalid(format!("`_meta` must have `{}`", meta::PROTOCOL_VERSION))),
        Some(date) if ProtocolVersion::parse(date).is_none_or(ProtocolVersion::has_sessions) => {
            return Err(RequestError::UnsupportedVersion(date.clone()));
        }
        Some(_) => {}
    }
    if meta.capabilities.is_none() {
        return Err(invalid(format!("`_meta` must have `{}`", meta::CLIENT_CAPABILITIES)));
    }
    Ok(())
}

fn read_call(mut params: Members) -> Result<CallTool, RequestError> {
    Ok(CallTool {
        name: required_text(&mut params, "name")?.into(),
        arguments: optional_object(&mut params, "arguments")?,
        continuation: read_continuation(&mut params)?,
        extra: params,
    })
}

fn read_continuation(params: &mut Members) -> Result<Continuation, RequestError> {
    let request_state = match params.remove("requestState") {
        None => None,
        Some(json) => Some(json.decode_string().ok_or_else(|| invalid("`requestState` must be a string"))?),
    };
    Ok(Continuation { input_responses: optional_object(params, "inputResponses")?, request_state })
}

fn read_complete(mut params: Members) -> Result<Complete, RequestError> {
    #[derive(Deserialize)]
    struct Reference<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow, default)]
        name: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        uri: Option<Cow<'a, str>>,
    }
    for (parent, known) in member_names::COMPLETION {
        member_names::check_member(parent, &params, known)?;
    }
    let json = params.remove("ref").ok_or_else(|| invalid("`ref` is required"))?;
    let reference: Reference<'_> = json.decode().map_err(|error| invalid(format!("`ref`: {error}")))?;
    let subject = match (&*reference.kind, reference.name, reference.uri) {
        ("ref/prompt", Some(name), _) => CompletionReference::Prompt(name.into_owned().into()),
        ("ref/resource", _, Some(uri)) => CompletionReference::Template(uri.into_owned().into()),
        _ => {
            return Err(invalid("`ref` must be a `ref/prompt` with `name` or a `ref/resource` with `uri`"));
        }
    };
    if !params.get("argument").is_some_and(Json::is_object) {
        return Err(invalid("`argument` is required and must be an object"));
    }
    Ok(Complete { reference: subject, extra: params })
}

fn required_text(params: &mut Members, name: &str) -> Result<String, RequestError> {
    params
        .remove(name)
        .and_then(|json| json.decode_string())
        .ok_or_else(|| invalid(format!("`{name}` is required and must be a string")))
}

fn optional_object(params: &mut Members, name: &str) -> Result<Option<Json>, RequestError> {
    match params.remove(name) {
        None => Ok(None),
        Some(json) if json.is_null() => Ok(None),
        Some(json) if json.is_object() => Ok(Some(json)),
        Some(_) => Err(invalid(format!("`{name}` must be an object"))),
    }
}

fn optional_cursor(params: &Members) -> Result<Option<String>, RequestError> {
    match params.get("cursor") {
        None => Ok(None),
        // Some clients send an empty cursor from a field that was never set.
        Some(json) if json.is_null() || json.as_str() == "\"\"" => Ok(None),
        Some(json) => json.decode_string().map(Some).ok_or_else(|| invalid("`cursor` must be a string")),
    }
}
