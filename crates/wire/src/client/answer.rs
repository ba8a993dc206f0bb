//! Answers, notifications and questions of backends. Members of this hop are taken off here.

use std::time::Duration;

use vmcp_domain::{
    AskError, BackendUri, Json, LogLevel, Members, ProtocolVersion, Question, QuestionKind, Reply, Stage,
};

use crate::code;
use crate::jsonrpc::RpcError;
use crate::{meta, method};

/// Why an answer of a backend is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// It lacks something the specification requires, or has it in another form.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// It speaks no revision that is known here.
    #[error("no common protocol version (it offers {0})")]
    NoCommonVersion(String),
}

/// What a backend says of itself when a connection begins.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// The revision in use from now on.
    pub version: ProtocolVersion,
    /// What it can do.
    pub capabilities: Members,
    /// Its instructions for models.
    pub instructions: Option<String>,
}

/// Reads the result of `initialize`.
///
/// # Errors
/// When it is malformed or names a revision that is not known.
pub fn read_initialize(result: &Json) -> Result<Introduction, AnswerFault> {
    let members = result.members().map_err(|_| AnswerFault::Malformed("the result is not an object"))?;
    let date = members.get("protocolVersion").and_then(Json::to_text);
    let date = date.ok_or(AnswerFault::Malformed("`protocolVersion` is missing"))?;
    let version = ProtocolVersion::parse(&date).filter(|version| version.has_sessions());
    introduce(version.ok_or(AnswerFault::NoCommonVersion(date))?, &members)
}

/// Reads the result of `server/discover`.
///
/// # Errors
/// When it is malformed or does not offer 2026-07-28.
pub fn read_discover(result: &Json) -> Result<Introduction, AnswerFault> {
    let members = result.members().map_err(|_| AnswerFault::Malformed("the result is not an object"))?;
    let versions = members.get("supportedVersions").and_then(|json| json.decode::<Vec<String>>().ok());
    let versions = versions.ok_or(AnswerFault::Malformed("`supportedVersions` is missing"))?;
    if !versions.iter().any(|date| date == ProtocolVersion::V2026_07_28.as_str()) {
        return Err(AnswerFault::NoCommonVersion(versions.join(", ")));
    }
    introduce(ProtocolVersion::V2026_07_28, &members)
}

fn introduce(version: ProtocolVersion, members: &Members) -> Result<Introduction, AnswerFault> {
    let capabilities = members.get("capabilities").map(Json::members).transpose();
    Ok(Introduction {
        version,
        capabilities: capabilities
            .map_err(|_| AnswerFault::Malformed("`capabilities` is not an object"))?
            .unwrap_or_default(),
        instructions: members.get("instructions").and_then(Json::to_text).filter(|text| !text.is_empty()),
    })
}

/// True for an error that only a server of 2026-07-28 sends, whatever else it says.
#[must_use]
pub fn speaks_2026_07_28(error: &RpcError) -> bool {
    matches!(error.code, code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION)
}

/// The revisions that an error names as supported, where it does (`UnsupportedProtocolVersionError`).
#[must_use]
pub fn supported_versions(error: &RpcError) -> Option<Vec<String>> {
    error.data.as_ref()?.members().ok()?.get("supported")?.decode().ok()
}

/// Reads one page of a list: the items under `member`, and the cursor of the next page.
///
/// # Errors
/// When the items are missing or not an array.
pub fn read_page(result: &Json, member: &str) -> Result<(Vec<Json>, Option<String>), AnswerFault> {
    let members = result.members().map_err(|_| AnswerFault::Malformed("the result is not an object"))?;
    let items = members.get(member).ok_or(AnswerFault::Malformed("the list is missing"))?;
    // Servers written in Go say `null` for a list that is empty.
    let items = match items.as_str() {
        "null" => Vec::new(),
        _ => items.elements().map_err(|_| AnswerFault::Malformed("the list is not an array"))?,
    };
    Ok((items, members.get("nextCursor").and_then(Json::to_text)))
}

/// Reads the result of a call, a read, a prompt or a completion.
///
/// # Errors
/// When it is not an object.
pub fn read_reply(version: ProtocolVersion, result: &Json) -> Result<Reply, AnswerFault> {
    let mut members = result.members().map_err(|_| AnswerFault::Malformed("the result is not an object"))?;
    let meta = meta::take(&mut members).unwrap_or_default();
    meta::put(&mut members, &meta.travelling);
    if version.has_sessions() {
        // In 2026-07-28 a structured result may be null.
        members.retain(|_, value| !value.is_null());
    }
    let failed = members.get("isError").is_some_and(|json| json.as_str() == "true");
    if version.has_sessions() {
        return Ok(Reply { members, failed, stage: Stage::Complete, fresh_for: None });
    }
    let result_type = members.take("resultType");
    let stage = match result_type.as_ref().map(Json::as_str) {
        // As nearly everybody spells it.
        None | Some("\"complete\"") => Stage::Complete,
        Some(_) => match result_type.and_then(|json| json.to_text()).as_deref() {
            None | Some("complete") => Stage::Complete,
            Some("input_required") => Stage::InputRequired,
            Some(other) => Stage::Extension(other.to_owned()),
        },
    };
    // A task's own `ttlMs` is how long it is kept, and no caching hint.
    if matches!(stage, Stage::Extension(_)) || members.get("taskId").is_some() {
        return Ok(Reply { members, failed, stage, fresh_for: None });
    }
    let fresh_for =
        members.take("ttlMs").and_then(|json| json.decode::<u64>().ok()).map(Duration::from_millis);
    members.take("cacheScope");
    Ok(Reply { members, failed, stage, fresh_for })
}

/// Makes the result of a tool one that strict clients take: `content` is a list, and `isError` true or false.
pub fn mend_tool_result(reply: &mut Reply) {
    if reply.stage != Stage::Complete || reply.is_task() {
        return;
    }
    let members = &mut reply.members;
    match members.get("content") {
        Some(content) if content.as_str().starts_with('[') => {}
        content => {
            let content = match content {
                Some(object) if object.is_object() => Json::list(std::slice::from_ref(object)),
                Some(text) if text.as_str().starts_with('"') => {
                    let block =
                        [("type".to_owned(), Json::string("text")), ("text".to_owned(), text.clone())];
                    Json::list(&[block.into_iter().collect::<Members>().to_json()])
                }
                Some(_) | None => Json::list(&[]),
            };
            members.set("content", content);
        }
    }
    match members.get("isError").map(|flag| flag.as_str().trim_matches('"').to_ascii_lowercase()) {
        None => {}
        Some(flag) if matches!(flag.as_str(), "true" | "false") => {
            reply.failed = flag == "true";
            members.set("isError", Json::boolean(reply.failed));
        }
        Some(flag) => {
            reply.failed = !matches!(flag.as_str(), "" | "0" | "null" | "no");
            members.set("isError", Json::boolean(reply.failed));
        }
    }
}

/// What a backend tells without being asked.
#[derive(Clone, Debug)]
pub enum BackendNotice {
    /// Progress of a request of ours, under our token.
    Progress {
        /// Our token.
        token: u64,
        /// The parameters without it.
        params: Members,
    },
    /// A log message.
    Log {
        /// Its severity.
        level: LogLevel,
        /// The parameters as sent.
        params: Members,
    },
    /// The page of the elicitation with this identifier has been visited.
    Visited(String),
    /// The list of tools changed.
    ToolsChanged,
    /// The list of resources or templates changed.
    ResourcesChanged,
    /// The list of prompts changed.
    PromptsChanged,
    /// The content of a resource changed.
    ResourceUpdated(BackendUri),
    /// The backend has taken up `subscriptions/listen`, which we sent under this number (2026-07-28).
    Listening(u64),
    /// The backend has ended `subscriptions/listen`, which we sent under this number (2026-07-28).
    ListeningEnded(u64),
    /// Something else, or something malformed.
    Other,
}

/// Reads a notification of a backend.
#[must_use]
pub fn read_notice(name: &str, params: Option<&Json>) -> BackendNotice {
    let mut members = params.and_then(|params| params.members().ok()).unwrap_or_default();
    match name {
        method::TOOLS_CHANGED => BackendNotice::ToolsChanged,
        method::RESOURCES_CHANGED => BackendNotice::ResourcesChanged,
        method::PROMPTS_CHANGED => BackendNotice::PromptsChanged,
        method::ELICITATION_COMPLETE => members
            .get("elicitationId")
            .and_then(Json::to_text)
            .map_or(BackendNotice::Other, BackendNotice::Visited),
        method::RESOURCE_UPDATED => members
            .get("uri")
            .and_then(Json::to_text)
            .map_or(BackendNotice::Other, |uri| BackendNotice::ResourceUpdated(uri.into())),
        method::PROGRESS => {
            let token = members.take("progressToken").and_then(|json| json.as_str().parse().ok());
            token.map_or(BackendNotice::Other, |token| BackendNotice::Progress { token, params: members })
        }
        method::LISTEN_ACKNOWLEDGED => members
            .get(meta::META)
            .and_then(|meta| meta.members().ok())
            .and_then(|meta| meta.get(meta::SUBSCRIPTION_ID)?.as_str().parse().ok())
            .map_or(BackendNotice::Other, BackendNotice::Listening),
        method::CANCELLED => members
            .get("requestId")
            .and_then(|id| id.as_str().parse().ok())
            .map_or(BackendNotice::Other, BackendNotice::ListeningEnded),
        method::LOG_MESSAGE => {
            let level = members.get("level").and_then(Json::to_text).as_deref().and_then(LogLevel::parse);
            level.map_or(BackendNotice::Other, |level| BackendNotice::Log { level, params: members })
        }
        _ => BackendNotice::Other,
    }
}

/// Reads a request of a backend as a question to the client. `None` for requests that are none (`ping`, say).
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

/// The error that a backend's question is answered with when the client did not answer it.
#[must_use]
pub fn answer_question(error: &AskError) -> RpcError {
    match error {
        AskError::Unsupported(_) => RpcError::new(code::METHOD_NOT_FOUND, error.to_string()),
        AskError::Unreachable => RpcError::new(code::INTERNAL_ERROR, error.to_string()),
        AskError::Refused { code, message, data } => {
            RpcError { code: *code, message: message.clone(), data: data.clone() }
        }
    }
}
