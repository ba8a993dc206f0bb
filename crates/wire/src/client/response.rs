//! Responses, notifications and questions of backends. The members that belong to this hop are removed here.

use std::time::Duration;

use vmcp_domain::{
    AskError, BackendUri, LogLevel, ProtocolVersion, Question, QuestionKind, Reply, ResultType,
};
use vmcp_json::{Json, Members};

use crate::code;
use crate::jsonrpc::RpcError;
use crate::{meta, method};

/// Why a backend's response cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The response lacks a required member, or one has the wrong form.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The backend speaks no protocol version that the gateway knows. The text lists what it offers.
    #[error("no common protocol version (it offers {0})")]
    NoCommonVersion(String),
}

/// What a backend declares when a connection opens.
#[derive(Clone, Debug)]
pub struct InitializeInfo {
    /// The protocol version of the connection.
    pub version: ProtocolVersion,
    /// The backend's capabilities.
    pub capabilities: Members,
    /// The backend's instructions for models.
    pub instructions: Option<String>,
}

/// Parses the result of `initialize`.
///
/// # Errors
/// When the result is malformed or names an unknown version.
pub fn read_initialize(result: &Json) -> Result<InitializeInfo, ResponseError> {
    let members = result.members().map_err(|_| ResponseError::Malformed("the result is not an object"))?;
    let date = members.get("protocolVersion").and_then(Json::decode_string);
    let date = date.ok_or(ResponseError::Malformed("`protocolVersion` is missing"))?;
    let version = ProtocolVersion::parse(&date).filter(|version| version.has_sessions());
    read_info(version.ok_or(ResponseError::NoCommonVersion(date))?, &members)
}

/// Parses the result of `server/discover`.
///
/// # Errors
/// When the result is malformed or does not offer 2026-07-28.
pub fn read_discover(result: &Json) -> Result<InitializeInfo, ResponseError> {
    let members = result.members().map_err(|_| ResponseError::Malformed("the result is not an object"))?;
    let versions = members.get("supportedVersions").and_then(|json| json.decode::<Vec<String>>().ok());
    let versions = versions.ok_or(ResponseError::Malformed("`supportedVersions` is missing"))?;
    if !versions.iter().any(|date| date == ProtocolVersion::V2026_07_28.as_str()) {
        return Err(ResponseError::NoCommonVersion(versions.join(", ")));
    }
    read_info(ProtocolVersion::V2026_07_28, &members)
}

fn read_info(version: ProtocolVersion, members: &Members) -> Result<InitializeInfo, ResponseError> {
    let capabilities = members.get("capabilities").map(Json::members).transpose();
    Ok(InitializeInfo {
        version,
        capabilities: capabilities
            .map_err(|_| ResponseError::Malformed("`capabilities` is not an object"))?
            .unwrap_or_default(),
        instructions: members
            .get("instructions")
            .and_then(Json::decode_string)
            .filter(|text| !text.is_empty()),
    })
}

/// True for an error code that only servers of 2026-07-28 send.
#[must_use]
pub fn is_stateless_error(error: &RpcError) -> bool {
    matches!(error.code, code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION)
}

/// The versions that an error lists as supported, if it does (`UnsupportedProtocolVersionError`).
#[must_use]
pub fn read_supported_versions(error: &RpcError) -> Option<Vec<String>> {
    error.data.as_ref()?.members().ok()?.get("supported")?.decode().ok()
}

/// Parses one page of a list: the items under `member`, and the cursor of the next page.
///
/// # Errors
/// When the items are missing or not an array.
pub fn read_page(result: &Json, member: &str) -> Result<(Vec<Json>, Option<String>), ResponseError> {
    let members = result.members().map_err(|_| ResponseError::Malformed("the result is not an object"))?;
    let items = members.get(member).ok_or(ResponseError::Malformed("the list is missing"))?;
    // Servers written in Go send `null` for an empty list.
    let items = match items.as_str() {
        "null" => Vec::new(),
        _ => items.elements().map_err(|_| ResponseError::Malformed("the list is not an array"))?,
    };
    Ok((items, members.get("nextCursor").and_then(Json::decode_string)))
}

/// Parses the result of a call, a read, a prompt or a completion.
///
/// # Errors
/// When the result is not an object.
pub fn read_reply(version: ProtocolVersion, result: &Json) -> Result<Reply, ResponseError> {
    let mut members =
        result.members().map_err(|_| ResponseError::Malformed("the result is not an object"))?;
    let meta = meta::extract(&mut members).unwrap_or_default();
    meta::insert(&mut members, &meta.forwarded);
    if version.has_sessions() {
        // In 2026-07-28 structured content may be null.
        members.retain(|_, value| !value.is_null());
    }
    let failed = members.get("isError").is_some_and(|json| json.as_str() == "true");
    if version.has_sessions() {
        return Ok(Reply { members, is_error: failed, result_type: ResultType::Complete, ttl: None });
    }
    let result_type = members.remove("resultType");
    let stage = match result_type.as_ref().map(Json::as_str) {
        // The spelling that nearly all servers use.
        None | Some("\"complete\"") => ResultType::Complete,
        Some(_) => match result_type.and_then(|json| json.decode_string()).as_deref() {
            None | Some("complete") => ResultType::Complete,
            Some("input_required") => ResultType::InputRequired,
            Some(other) => ResultType::Extension(other.to_owned()),
        },
    };
    // A task's own `ttlMs` says how long the task is kept. It is not a caching hint.
    if matches!(stage, ResultType::Extension(_)) || members.get("taskId").is_some() {
        return Ok(Reply { members, is_error: failed, result_type: stage, ttl: None });
    }
    let ttl = members.remove("ttlMs").and_then(|json| json.decode::<u64>().ok()).map(Duration::from_millis);
    members.remove("cacheScope");
    Ok(Reply { members, is_error: failed, result_type: stage, ttl })
}

/// Repairs a tool result for strict clients: `content` becomes an array, and `isError` becomes `true` or
/// `false`.
pub fn sanitize_tool_result(reply: &mut Reply) {
    if reply.result_type != ResultType::Complete || reply.is_task() {
        return;
    }
    let members = &mut reply.members;
    match members.get("content") {
        Some(content) if content.as_str().starts_with('[') => {}
        content => {
            let content = match content {
                Some(object) if object.is_object() => Json::array(std::slice::from_ref(object)),
                Some(text) if text.as_str().starts_with('"') => {
                    let block =
                        [("type".to_owned(), Json::string("text")), ("text".to_owned(), text.clone())];
                    Json::array(&[block.into_iter().collect::<Members>().to_json()])
                }
                Some(_) | None => Json::array(&[]),
            };
            members.insert("content", content);
        }
    }
    match members.get("isError").map(|flag| flag.as_str().trim_matches('"').to_ascii_lowercase()) {
        None => {}
        Some(flag) if matches!(flag.as_str(), "true" | "false") => {
            reply.is_error = flag == "true";
            members.insert("isError", Json::boolean(reply.is_error));
        }
        Some(flag) => {
            reply.is_error = !matches!(flag.as_str(), "" | "0" | "null" | "no");
            members.insert("isError", Json::boolean(reply.is_error));
        }
    }
}

/// A notification of a backend.
#[derive(Clone, Debug)]
pub enum BackendNotification {
    /// Progress of a request of the gateway.
    Progress {
        /// The gateway's progress token.
        token: u64,
        /// The parameters without the token.
        params: Members,
    },
    /// A log message.
    Log {
        /// The severity.
        level: LogLevel,
        /// The parameters as sent.
        params: Members,
    },
    /// The user has visited the URL of the elicitation with this identifier.
    ElicitationComplete(String),
    /// The list of tools changed.
    ToolsChanged,
    /// The list of resources or resource templates changed.
    ResourcesChanged,
    /// The list of prompts changed.
    PromptsChanged,
    /// The content of a resource changed.
    ResourceUpdated(BackendUri),
    /// The backend accepted the gateway's `subscriptions/listen` request with this number (2026-07-28).
    ListenAcknowledged(u64),
    /// The backend ended the gateway's `subscriptions/listen` request with this number (2026-07-28).
    ListenEnded(u64),
    /// An unknown or malformed notification.
    Other,
}

/// Parses a notification of a backend.
#[must_use]
pub fn read_notification(name: &str, params: Option<&Json>) -> BackendNotification {
    let mut members = params.and_then(|params| params.members().ok()).unwrap_or_default();
    match name {
        method::TOOLS_CHANGED => BackendNotification::ToolsChanged,
        method::RESOURCES_CHANGED => BackendNotification::ResourcesChanged,
        method::PROMPTS_CHANGED => BackendNotification::PromptsChanged,
        method::ELICITATION_COMPLETE => members
            .get("elicitationId")
            .and_then(Json::decode_string)
            .map_or(BackendNotification::Other, BackendNotification::ElicitationComplete),
        method::RESOURCE_UPDATED => members
            .get("uri")
            .and_then(Json::decode_string)
            .map_or(BackendNotification::Other, |uri| BackendNotification::ResourceUpdated(uri.into())),
        method::PROGRESS => {
            let token = members.remove("progressToken").and_then(|json| json.as_str().parse().ok());
            token.map_or(BackendNotification::Other, |token| BackendNotification::Progress {
                token,
                params: members,
            })
        }
        method::LISTEN_ACKNOWLEDGED => members
            .get(meta::META)
            .and_then(|meta| meta.members().ok())
            .and_then(|meta| meta.get(meta::SUBSCRIPTION_ID)?.as_str().parse().ok())
            .map_or(BackendNotification::Other, BackendNotification::ListenAcknowledged),
        method::CANCELLED => members
            .get("requestId")
            .and_then(|id| id.as_str().parse().ok())
            .map_or(BackendNotification::Other, BackendNotification::ListenEnded),
        method::LOG_MESSAGE => {
            let level =
                members.get("level").and_then(Json::decode_string).as_deref().and_then(LogLevel::parse);
            level.map_or(BackendNotification::Other, |level| BackendNotification::Log {
                level,
                params: members,
            })
        }
        _ => BackendNotification::Other,
    }
}

/// Parses a request of a backend as a question to the client. `None` for other requests, such as `ping`.
#[must_use]
pub fn read_question(name: &str, params: Option<Json>) -> Option<Question> {
    let kind = match name {
        method::ELICITATION => QuestionKind::Elicitation,
        method::SAMPLING => QuestionKind::Sampling,
        method::ROOTS => QuestionKind::Roots,
        _ => return None,
    };
    Some(Question { kind, params: params.unwrap_or_else(Json::empty_object) })
}

/// The error that the backend gets when the client did not answer its question.
#[must_use]
pub fn question_error(error: &AskError) -> RpcError {
    match error {
        AskError::Unsupported(_) => RpcError::new(code::METHOD_NOT_FOUND, error.to_string()),
        AskError::Unreachable => RpcError::new(code::INTERNAL_ERROR, error.to_string()),
        AskError::Refused { code, message, data } => {
            RpcError { code: *code, message: message.clone(), data: data.clone() }
        }
    }
}
