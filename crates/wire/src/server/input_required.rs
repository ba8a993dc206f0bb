//! Multi round-trip requests that the gateway starts itself, for questions of backends with sessions
//! (2026-07-28, Multi Round-Trip Requests). The edge knows which call a state belongs to.

use vmcp_domain::{Continuation, Question, Reply, ResultType};
use vmcp_json::{Json, Members};

use super::{ClientRequest, RequestError};
use crate::{meta, method};

/// Builds the result that asks the client for input: the questions under their keys, and the state, if any,
/// that the client must send back.
#[must_use]
pub fn input_required<'a>(
    questions: impl IntoIterator<Item = (String, &'a Question)>,
    state: Option<&str>,
) -> Reply {
    let requests: Members =
        questions.into_iter().map(|(key, question)| (key, input_request(question))).collect();
    let mut members = Members::new();
    members.insert("inputRequests", requests.to_json());
    if let Some(state) = state {
        members.insert("requestState", Json::string(state));
    }
    Reply { result_type: ResultType::InputRequired, ..Reply::complete(members) }
}

fn input_request(question: &Question) -> Json {
    let mut request = Members::new();
    request.insert("method", Json::string(method::question_method(question.kind)));
    if let Ok(mut params) = question.params.members() {
        // Removes what belongs to the backend's hop, and the identifier for the completion notification.
        let meta = meta::extract(&mut params).unwrap_or_default();
        let mut travelling = meta.forwarded;
        meta::strip_reserved(&mut travelling);
        meta::insert(&mut params, &travelling);
        params.remove("elicitationId");
        if !params.is_empty() {
            request.insert("params", params.to_json());
        }
    }
    request.to_json()
}

/// Reads the client's answers, each a result object, under the keys of the questions. Absent answers are an
/// empty object.
///
/// # Errors
/// [`RequestError::InvalidParams`] when the answers or one of them are not an object.
pub fn read_input_responses(responses: Option<&Json>) -> Result<Members, RequestError> {
    let wrong = |text: String| RequestError::InvalidParams(text);
    let Some(responses) = responses else { return Ok(Members::new()) };
    let answers = responses.members().map_err(|_| {
        wrong(format!("`inputResponses` must be an object of at most {} members", Json::MEMBERS_MAX))
    })?;
    for (key, answer) in answers.iter() {
        if !answer.is_object() {
            return Err(wrong(format!("`inputResponses`: the answer to {key:?} must be an object")));
        }
    }
    Ok(answers)
}

/// The common parts of requests that may take several rounds (2026-07-28, Multi Round-Trip Requests,
/// "Supported Requests").
#[derive(Clone, Copy, Debug)]
pub struct MultiRoundRequest<'a> {
    /// The method name.
    pub method: &'static str,
    /// The name of the tool or prompt, or the URI of the resource.
    pub subject: &'a str,
    /// The arguments, if there are any.
    pub arguments: Option<&'a Json>,
    /// Further parameters, which are forwarded.
    pub extra: &'a Members,
    /// The answers and the state of an earlier round.
    pub continuation: &'a Continuation,
}

impl ClientRequest {
    /// The request's multi-round view; `None` for a request that takes one round.
    #[must_use]
    pub fn as_multi_round(&self) -> Option<MultiRoundRequest<'_>> {
        let (method, subject, arguments, extra, continuation) = match self {
            Self::CallTool(call) => (
                method::TOOLS_CALL,
                call.name.as_str(),
                call.arguments.as_ref(),
                &call.extra,
                &call.continuation,
            ),
            Self::GetPrompt(get) => (
                method::PROMPTS_GET,
                get.name.as_str(),
                get.arguments.as_ref(),
                &get.extra,
                &get.continuation,
            ),
            Self::ReadResource(read) => {
                (method::RESOURCES_READ, read.uri.original(), None, &read.extra, &read.continuation)
            }
            Self::Initialize(_)
            | Self::Ping
            | Self::Discover
            | Self::ListTools(_)
            | Self::ListResources(_)
            | Self::ListResourceTemplates(_)
            | Self::ListPrompts(_)
            | Self::Complete(_)
            | Self::Task(..)
            | Self::SetLogLevel(_)
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Listen(_) => return None,
        };
        Some(MultiRoundRequest { method, subject, arguments, extra, continuation })
    }
}

/// The value of the body that the `Mcp-Name` header must repeat, for requests that need the header.
#[must_use]
pub fn mcp_name_value(request: &ClientRequest) -> Option<&str> {
    if let ClientRequest::Task(_, id, _) = request {
        return Some(id);
    }
    request.as_multi_round().map(|request| request.subject)
}

#[cfg(test)]
mod tests {
    use vmcp_domain::QuestionKind;

    use super::*;

    #[test]
    fn questions_are_asked_as_this_revision_asks_them() {
        let question =
            |kind, params: &str| Question { kind, params: Json::parse(params.to_owned()).unwrap() };
        let url = question(
            QuestionKind::Elicitation,
            r#"{"mode":"url","url":"https://a/b","message":"m","elicitationId":"7","_meta":{"progressToken":1,"x":2}}"#,
        );
        let roots = question(QuestionKind::Roots, "{}");
        let reply = input_required([("1".to_owned(), &url), ("2".to_owned(), &roots)], Some("state"));
        assert_eq!(reply.result_type, ResultType::InputRequired);
        assert_eq!(
            reply.members.to_json().as_str(),
            r#"{"inputRequests":{"1":{"method":"elicitation/create","params":{"mode":"url","url":"https://a/b","message":"m","_meta":{"x":2}}},"2":{"method":"roots/list"}},"requestState":"state"}"#
        );
    }

    #[test]
    fn answers_must_be_objects() {
        let read = |text: &str| read_input_responses(Some(&Json::parse(text.to_owned()).unwrap()));
        assert_eq!(read(r#"{"1":{"action":"accept"}}"#).unwrap().len(), 1);
        assert!(read(r#"{"1":"yes"}"#).is_err());
        assert!(read_input_responses(None).unwrap().is_empty());
    }
}
