//! The channel back to the client that made a request: progress, log messages and questions (elicitation,
//! sampling, roots). The edge creates one per request and puts it into the context.

use std::fmt;

use vmcp_json::{Json, Members};

use crate::future::BoxFuture;
use crate::request::client_key::ClientKey;

/// The severity of a log message, least severe first (RFC 5424, which the specification's logging section
/// uses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the eight names are RFC 5424's own")]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl LogLevel {
    /// Every level, least severe first.
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// The level's name in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// The level called `name`, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// The capabilities that the client declared for questions of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCapabilities {
    /// The capabilities object as the client sent it.
    pub declared: Members,
}

impl ClientCapabilities {
    /// True when the client declared the capability for questions of this kind.
    #[must_use]
    pub fn supports(&self, kind: QuestionKind) -> bool {
        self.declared.get(kind.capability()).is_some_and(Json::is_object)
    }

    /// True when the client declared that it can follow calls that continue as tasks.
    #[must_use]
    pub fn supports_tasks(&self) -> bool {
        let extensions = self.declared.get("extensions").map(Json::members);
        matches!(extensions, Some(Ok(named)) if named.get(TASKS_EXTENSION).is_some_and(Json::is_object))
    }

    /// True when the client declared everything that this question needs: the mode of an elicitation, and
    /// tools for sampling (Elicitation, "Capabilities"; Sampling, "Capabilities").
    #[must_use]
    pub fn supports_question(&self, question: &Question) -> bool {
        let declared = self.declared.get(question.kind.capability()).map(Json::members);
        let Some(Ok(declared)) = declared else { return false };
        let has = |name: &str| declared.get(name).is_some_and(Json::is_object);
        let asks = |name: &str| question.params.members().ok().and_then(|params| params.get(name).cloned());
        match question.kind {
            QuestionKind::Elicitation => {
                let mode = asks("mode").and_then(|mode| mode.decode_string());
                // A client that declares no mode supports forms, which were the only mode at first.
                if mode.as_deref() == Some("url") { has("url") } else { has("form") || !has("url") }
            }
            QuestionKind::Sampling => {
                asks("tools").or_else(|| asks("toolChoice")).is_none_or(|tools| tools.is_null())
                    || has("tools")
            }
            QuestionKind::Roots => true,
        }
    }
}

/// The kinds of questions that a backend may ask a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuestionKind {
    /// Ask the user for information.
    Elicitation,
    /// Ask the client's model for a completion.
    Sampling,
    /// Ask which folders the client works in.
    Roots,
}

impl QuestionKind {
    /// The client capability that the question needs.
    #[must_use]
    pub fn capability(self) -> &'static str {
        match self {
            Self::Elicitation => "elicitation",
            Self::Sampling => "sampling",
            Self::Roots => "roots",
        }
    }
}

/// The extension by which a call may continue as a task (SEP-2663).
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// Something that a client must have declared before the gateway uses it with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// The client answers questions of this kind.
    Question(QuestionKind),
    /// The client follows calls that continue as tasks.
    Tasks,
}

impl From<QuestionKind> for Capability {
    fn from(kind: QuestionKind) -> Self {
        Self::Question(kind)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Question(kind) => kind.capability(),
            Self::Tasks => TASKS_EXTENSION,
        })
    }
}

/// One question of a backend to the client.
#[derive(Clone, Debug)]
pub struct Question {
    /// The kind of question.
    pub kind: QuestionKind,
    /// The parameters as the backend sent them.
    pub params: Json,
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The client did not declare the capability.
    #[error("the client does not support {}", .0.capability())]
    Unsupported(QuestionKind),
    /// The client cannot be reached during this request.
    #[error("the client cannot be asked during this request")]
    Unreachable,
    /// The client answered with an error of its own.
    #[error("the client refused: {message}")]
    Refused {
        /// The client's error code.
        code: i64,
        /// The client's error message.
        message: String,
        /// The client's error data.
        data: Option<Json>,
    },
}

/// The channel back to the client during one request.
///
/// Progress and log messages are dropped when the client did not ask for them. A caller need not check first,
/// but may do so to save work.
pub trait ClientPort: Send + Sync + fmt::Debug {
    /// True when the client asked for progress notifications of this request.
    fn wants_progress(&self) -> bool;
    /// Sends a progress notification. `params` are its parameters without the progress token.
    fn progress(&self, params: Members);
    /// The least severe level of log messages that the client wants, or `None` for no log messages.
    fn log_level(&self) -> Option<LogLevel>;
    /// Forwards a log message. `params` are the notification's parameters as the backend sent them.
    fn log(&self, level: LogLevel, params: Members);
    /// Notifies the client that the user has visited a URL that an elicitation sent the user to. It is
    /// dropped when the client's protocol version has no such notification. `params` are the notification's
    /// parameters. It may come after the request was answered.
    fn elicitation_complete(&self, params: Members);
    /// The capabilities that the client declared.
    fn capabilities(&self) -> &ClientCapabilities;
    /// Identifies the client. Requests with the same key belong to one client, and a question may be sent
    /// over any of them. `None` when it is unknown which requests come from one client.
    fn client_key(&self) -> Option<ClientKey>;
    /// Asks the client and waits for the result object. Dropping the future withdraws the question.
    ///
    /// # Errors
    /// [`AskError::Unsupported`] when the client did not declare the capability, [`AskError::Unreachable`]
    /// when there is no channel to it, and [`AskError::Refused`] when it answers with an error.
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>>;
}

/// A client that receives nothing and answers nothing: for requests that no client made, and for those that
/// the gateway makes on behalf of a client.
#[derive(Clone, Debug, Default)]
pub struct SilentClient {
    /// The client on behalf of which the request is made, if there is one.
    pub key: Option<ClientKey>,
    /// The capabilities of that client.
    pub capabilities: ClientCapabilities,
}

impl SilentClient {
    /// Builds the port for maintenance on behalf of a client, with no capabilities.
    #[must_use]
    pub fn for_client(key: ClientKey) -> Self {
        Self { key: Some(key), capabilities: ClientCapabilities::default() }
    }
}

impl ClientPort for SilentClient {
    fn wants_progress(&self) -> bool {
        false
    }

    fn progress(&self, _params: Members) {}

    fn log_level(&self) -> Option<LogLevel> {
        None
    }

    fn log(&self, _level: LogLevel, _params: Members) {}

    fn elicitation_complete(&self, _params: Members) {}

    fn capabilities(&self) -> &ClientCapabilities {
        &self.capabilities
    }

    fn client_key(&self) -> Option<ClientKey> {
        self.key.clone()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        Box::pin(std::future::ready(Err(AskError::Unsupported(question.kind))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_needs_what_it_needs() {
        let json = |text: &str| Json::parse(text.to_owned()).unwrap();
        for (declared, kind, params, allowed) in [
            (r#"{}"#, QuestionKind::Roots, "{}", false),
            (r#"{"roots":{}}"#, QuestionKind::Roots, "{}", true),
            (r#"{"elicitation":{}}"#, QuestionKind::Elicitation, r#"{"message":"m"}"#, true),
            (r#"{"elicitation":{}}"#, QuestionKind::Elicitation, r#"{"mode":"form"}"#, true),
            (r#"{"elicitation":{}}"#, QuestionKind::Elicitation, r#"{"mode":"url"}"#, false),
            (r#"{"elicitation":{"url":{}}}"#, QuestionKind::Elicitation, r#"{"mode":"url"}"#, true),
            (r#"{"elicitation":{"url":{}}}"#, QuestionKind::Elicitation, r#"{"message":"m"}"#, false),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, QuestionKind::Elicitation, "{}", true),
            (r#"{"sampling":{}}"#, QuestionKind::Sampling, r#"{"messages":[],"tools":null}"#, true),
            (r#"{"sampling":{}}"#, QuestionKind::Sampling, r#"{"messages":[],"tools":[]}"#, false),
            (r#"{"sampling":{"tools":{}}}"#, QuestionKind::Sampling, r#"{"toolChoice":{}}"#, true),
        ] {
            let capabilities = ClientCapabilities { declared: json(declared).members().unwrap() };
            let question = Question { kind, params: json(params) };
            assert_eq!(capabilities.supports_question(&question), allowed, "{declared} {params}");
        }
    }
}
