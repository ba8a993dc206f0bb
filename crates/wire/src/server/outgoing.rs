//! Notifications and questions to clients, as whole messages. The edge decides when and to which client they
//! are sent.

use vmcp_domain::{Change, Question, QuestionKind};
use vmcp_json::{Json, Members};

use super::ListenFilter;
use crate::jsonrpc::{self, Id};
use crate::{meta, method};

/// Writes a progress notification for the request that carried `token`.
#[must_use]
pub fn progress(token: &Json, params: &Members) -> Vec<u8> {
    let mut all = params.clone();
    all.insert(meta::PROGRESS_TOKEN, token.clone());
    jsonrpc::write_notification(method::PROGRESS, &all)
}

/// Writes a log message notification.
#[must_use]
pub fn log_message(params: &Members) -> Vec<u8> {
    jsonrpc::write_notification(method::LOG_MESSAGE, params)
}

/// Writes a change notification. `subscription` is the identifier of the `subscriptions/listen` request that
/// it belongs to (2026-07-28).
#[must_use]
pub fn change(change: &Change, subscription: Option<&Id>) -> Vec<u8> {
    let mut params = Members::new();
    if let Some(id) = subscription {
        meta::insert(&mut params, &subscription_meta(id));
    }
    let method = match change {
        Change::Tools => method::TOOLS_CHANGED,
        Change::Resources => method::RESOURCES_CHANGED,
        Change::Prompts => method::PROMPTS_CHANGED,
        Change::Resource(uri) => {
            // The spelling of the client or the backend.
            params.insert("uri", Json::string(uri.original()));
            method::RESOURCE_UPDATED
        }
    };
    jsonrpc::write_notification(method, &params)
}

/// Writes the first message of a `subscriptions/listen` stream. It lists which of the requested changes will
/// be notified.
#[must_use]
pub fn acknowledged(id: &Id, honoured: &ListenFilter) -> Vec<u8> {
    let mut kinds = Members::new();
    let flags = [
        ("toolsListChanged", honoured.tools_list_changed),
        ("promptsListChanged", honoured.prompts_list_changed),
        ("resourcesListChanged", honoured.resources_list_changed),
    ];
    for (name, _) in flags.iter().filter(|(_, wanted)| *wanted) {
        kinds.insert(name, Json::boolean(true));
    }
    if !honoured.resource_subscriptions.is_empty()
        && let Ok(uris) = Json::encode(&honoured.resource_subscriptions)
    {
        kinds.insert("resourceSubscriptions", uris);
    }
    let mut params = Members::new();
    meta::insert(&mut params, &subscription_meta(id));
    params.insert("notifications", kinds.to_json());
    jsonrpc::write_notification(method::LISTEN_ACKNOWLEDGED, &params)
}

/// Writes a question to a client of a version with sessions.
#[must_use]
pub fn question(id: &Id, question: &Question) -> Vec<u8> {
    let method = method::question_method(question.kind);
    match with_elicitation_id(id, question) {
        Some(params) => jsonrpc::write_request(id, method, &params),
        None => jsonrpc::write_request(id, method, &question.params),
    }
}

/// Adds the `elicitationId` that 2025-11-25 requires for URL elicitations (Elicitation, "URL Mode") and that
/// 2026-07-28 removed. `None` when the parameters need no change.
fn with_elicitation_id(id: &Id, question: &Question) -> Option<Json> {
    if question.kind != QuestionKind::Elicitation {
        return None;
    }
    let mut params = question.params.members().ok()?;
    let is_url_mode = params.get("mode").and_then(Json::decode_string).as_deref() == Some("url");
    if !is_url_mode || params.get("elicitationId").is_some() {
        return None;
    }
    params.insert("elicitationId", Json::string(&format!("question-{}", id.as_json().as_str())));
    Some(params.to_json())
}

/// Notifies the client that the user has visited the URL of an elicitation (versions with sessions).
#[must_use]
pub fn elicitation_complete(params: &Members) -> Vec<u8> {
    jsonrpc::write_notification(method::ELICITATION_COMPLETE, params)
}

/// Writes the cancellation of a question.
#[must_use]
pub fn cancelled(id: &Id) -> Vec<u8> {
    let mut params = Members::new();
    params.insert("requestId", id.as_json().clone());
    jsonrpc::write_notification(method::CANCELLED, &params)
}

fn subscription_meta(id: &Id) -> Members {
    [(meta::SUBSCRIPTION_ID.to_owned(), id.as_json().clone())].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_the_specification_shows_them() {
        let id = Id::number(1);
        assert_eq!(
            String::from_utf8(change(&Change::Resource("file:///a".into()), Some(&id))).unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"uri":"file:///a"}}"#
        );
        assert_eq!(
            String::from_utf8(change(&Change::Tools, None)).unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#
        );
        let filter = ListenFilter {
            tools_list_changed: true,
            resource_subscriptions: vec!["file:///a".to_owned()],
            ..ListenFilter::default()
        };
        assert_eq!(
            String::from_utf8(acknowledged(&id, &filter)).unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///a"]}}}"#
        );
        let asked = |params: &str| {
            let params = Json::parse(params.to_owned()).unwrap();
            String::from_utf8(question(&id, &Question { kind: QuestionKind::Elicitation, params })).unwrap()
        };
        assert_eq!(
            asked(r#"{"mode":"url","url":"https://a"}"#),
            r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"mode":"url","url":"https://a","elicitationId":"question-1"}}"#
        );
        assert!(asked(r#"{"mode":"url","elicitationId":"own"}"#).contains(r#""elicitationId":"own""#));
        assert!(!asked(r#"{"message":"m"}"#).contains("elicitationId"));
        let params = [("progress".to_owned(), Json::integer(3))].into_iter().collect();
        assert_eq!(
            String::from_utf8(progress(&Json::string("t"), &params)).unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":3,"progressToken":"t"}}"#
        );
    }
}
