//! Multi round-trip requests as the gateway starts them itself, for questions of backends of the session era
//! (2026-07-28, Multi Round-Trip Requests). Which call a state belongs to is the edge's to know.

use vmcp_domain::{Continuation, Json, Members, Question, Reply, ResultType};

use super::{ClientRequest, RequestError};
use crate::{meta, method};

/// The result that asks the client for input: the questions under their keys, and the state it has to bring back, if
/// there is one.
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
        // What belongs to the hop it came over, and the identifier that went with the notification it was for.
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

/// The client's answers, each a result object, under the keys of the questions.
///
/// # Errors
/// When one of them is not an object.
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

/// What requests have in common that may take several rounds (2026-07-28, Multi Round-Trip Requests, "Supported
/// Requests").
#[derive(Clone, Copy, Debug)]
pub struct MultiRoundRequest<'a> {
    /// The method.
    pub method: &'static str,
    /// The tool, the prompt, or the resource.
    pub subject: &'a str,
    /// The arguments, where there are any.
    pub arguments: Option<&'a Json>,
    /// Further parameters that are passed on.
    pub extra: &'a Members,
    /// What an earlier round has left.
    pub continuation: &'a Continuation,
}

impl ClientRequest {
    /// The request as one that may take several rounds, if it may.
    #[must_use]
    pub fn as_multi_round(&self) -> Option<MultiRoundRequest<'_>> {
        let (method, subject, arguments, rest, continuation) = match self {
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
        Some(MultiRoundRequest { method, subject, arguments, extra: rest, continuation })
    }
}

/// The body's value that the `Mcp-Name` header repeats, for requests that need the header.
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
