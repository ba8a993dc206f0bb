//! Method names, as the specification spells them.

use vmcp_domain::{QuestionKind, TaskOperation};

/// `initialize` (2025-11-25 and older).
pub const INITIALIZE: &str = "initialize";
/// `ping` (2025-11-25 and older).
pub const PING: &str = "ping";
/// `server/discover` (2026-07-28).
pub const DISCOVER: &str = "server/discover";
/// `tools/list`.
pub const TOOLS_LIST: &str = "tools/list";
/// `tools/call`.
pub const TOOLS_CALL: &str = "tools/call";
/// `resources/list`.
pub const RESOURCES_LIST: &str = "resources/list";
/// `resources/templates/list`.
pub const TEMPLATES_LIST: &str = "resources/templates/list";
/// `resources/read`.
pub const RESOURCES_READ: &str = "resources/read";
/// `resources/subscribe` (2025-11-25 and older).
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
/// `resources/unsubscribe` (2025-11-25 and older).
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
/// `prompts/list`.
pub const PROMPTS_LIST: &str = "prompts/list";
/// `prompts/get`.
pub const PROMPTS_GET: &str = "prompts/get";
/// `completion/complete`.
pub const COMPLETE: &str = "completion/complete";
/// `logging/setLevel` (2025-11-25 and older).
pub const SET_LEVEL: &str = "logging/setLevel";
/// `subscriptions/listen` (2026-07-28).
pub const LISTEN: &str = "subscriptions/listen";
/// `tasks/get` (tasks extension).
pub const TASKS_GET: &str = "tasks/get";
/// `tasks/update` (tasks extension).
pub const TASKS_UPDATE: &str = "tasks/update";
/// `tasks/cancel` (tasks extension).
pub const TASKS_CANCEL: &str = "tasks/cancel";
/// `elicitation/create`.
pub const ELICITATION: &str = "elicitation/create";
/// `sampling/createMessage`.
pub const SAMPLING: &str = "sampling/createMessage";
/// `roots/list`.
pub const ROOTS: &str = "roots/list";

/// The method of a question.
#[must_use]
pub fn question_method(kind: QuestionKind) -> &'static str {
    match kind {
        QuestionKind::Elicitation => ELICITATION,
        QuestionKind::Sampling => SAMPLING,
        QuestionKind::Roots => ROOTS,
    }
}

/// The method of a task operation.
#[must_use]
pub fn task_method(operation: TaskOperation) -> &'static str {
    match operation {
        TaskOperation::Get => TASKS_GET,
        TaskOperation::Update => TASKS_UPDATE,
        TaskOperation::Cancel => TASKS_CANCEL,
    }
}

/// The constant that equals `name`, if there is one. A client's own text must not be stored or used as a
/// label, because it is unbounded.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static str> {
    CLIENT_METHODS.iter().copied().find(|known| *known == name)
}

/// The methods that clients send, the most frequent first.
const CLIENT_METHODS: [&str; 22] = [
    TOOLS_CALL,
    TOOLS_LIST,
    RESOURCES_READ,
    PROMPTS_GET,
    INITIALIZE,
    INITIALIZED,
    DISCOVER,
    PING,
    RESOURCES_LIST,
    TEMPLATES_LIST,
    PROMPTS_LIST,
    COMPLETE,
    LISTEN,
    RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE,
    SET_LEVEL,
    TASKS_GET,
    TASKS_UPDATE,
    TASKS_CANCEL,
    CANCELLED,
    PROGRESS,
    ROOTS_CHANGED,
];

/// True for requests that only clients send, and servers never.
#[must_use]
pub fn is_client_request(method: &str) -> bool {
    matches!(
        method,
        INITIALIZE
            | DISCOVER
            | TOOLS_LIST
            | TOOLS_CALL
            | RESOURCES_LIST
            | TEMPLATES_LIST
            | RESOURCES_READ
            | RESOURCES_SUBSCRIBE
            | RESOURCES_UNSUBSCRIBE
            | PROMPTS_LIST
            | PROMPTS_GET
            | COMPLETE
            | SET_LEVEL
            | LISTEN
    )
}

/// `notifications/initialized`.
pub const INITIALIZED: &str = "notifications/initialized";
/// `notifications/cancelled`.
pub const CANCELLED: &str = "notifications/cancelled";
/// `notifications/progress`.
pub const PROGRESS: &str = "notifications/progress";
/// `notifications/message`.
pub const LOG_MESSAGE: &str = "notifications/message";
/// `notifications/tools/list_changed`.
pub const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
/// `notifications/resources/list_changed`.
pub const RESOURCES_CHANGED: &str = "notifications/resources/list_changed";
/// `notifications/prompts/list_changed`.
pub const PROMPTS_CHANGED: &str = "notifications/prompts/list_changed";
/// `notifications/resources/updated`.
pub const RESOURCE_UPDATED: &str = "notifications/resources/updated";
/// `notifications/elicitation/complete` (2025-11-25 and older).
pub const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";
/// `notifications/roots/list_changed`.
pub const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
/// `notifications/subscriptions/acknowledged` (2026-07-28).
pub const LISTEN_ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
