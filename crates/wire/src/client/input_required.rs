//! Multi round-trip requests of backends: the questions that a backend asks, and the answers for the retry.
//! Source: 2026-07-28, Multi Round-Trip Requests.

use vmcp_domain::{Continuation, Question, QuestionKind, Reply};
use vmcp_json::{Json, Members};

use crate::client::response::{ResponseError, read_question};
use crate::code;
use crate::jsonrpc::RpcError;

/// The input that a backend requires before it continues.
#[derive(Clone, Debug)]
pub struct InputRequired {
    /// The questions, each under the backend's own key.
    pub questions: Vec<(String, Question)>,
    /// The backend's opaque state, which is sent back unchanged.
    pub request_state: Option<String>,
}

/// Parses a reply of type [`vmcp_domain::ResultType::InputRequired`].
///
/// # Errors
/// When the questions do not have the form of the specification.
pub fn read_input_required(reply: &Reply) -> Result<InputRequired, ResponseError> {
    let requests = match reply.members.get("inputRequests") {
        None => Members::new(),
        Some(requests) => {
            requests.members().map_err(|_| ResponseError::Malformed("`inputRequests` is not an object"))?
        }
    };
    let mut questions = Vec::with_capacity(requests.len());
    for (key, request) in requests.iter() {
        let request =
            request.members().map_err(|_| ResponseError::Malformed("an input request is not an object"))?;
        let method = request.get("method").and_then(Json::decode_string).unwrap_or_default();
        let question = read_question(&method, request.get("params").cloned())
            .ok_or(ResponseError::Malformed("an input request has an unknown method"))?;
        questions.push((key.into_owned(), question));
    }
    Ok(InputRequired {
        questions,
        request_state: reply.members.get("requestState").and_then(Json::decode_string),
    })
}

/// The URLs that a backend of 2025-11-25 requires the user to visit before it executes the request
/// (`URLElicitationRequiredError`), each as a question under its own key. `None` for any other error.
#[must_use]
pub fn read_url_elicitations(error: &RpcError) -> Option<Vec<(String, Question)>> {
    if error.code != code::URL_ELICITATION_REQUIRED {
        return None;
    }
    let elicitations = error.data.as_ref()?.members().ok()?.get("elicitations")?.elements().ok()?;
    let question = |(index, params): (usize, Json)| {
        (format!("visit-{index}"), Question { kind: QuestionKind::Elicitation, params })
    };
    Some(elicitations.into_iter().enumerate().map(question).collect())
        .filter(|elicitations: &Vec<_>| !elicitations.is_empty())
}

/// Builds the continuation that the retry carries.
#[must_use]
pub fn build_continuation(answers: Vec<(String, Json)>, request_state: Option<String>) -> Continuation {
    Continuation {
        input_responses: (!answers.is_empty()).then(|| answers.into_iter().collect::<Members>().to_json()),
        request_state,
    }
}

#[cfg(test)]
mod tests {
    use vmcp_domain::{ProtocolVersion, ResultType};

    use super::*;
    use crate::client::read_reply;

    #[test]
    fn questions_are_read_and_answers_written() {
        let result = Json::parse(
            r#"{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"z":1}},"b":{"method":"roots/list"}},"requestState":"s\n"}"#,
        );
        let reply = read_reply(ProtocolVersion::V2026_07_28, &result.unwrap()).unwrap();
        assert_eq!(reply.result_type, ResultType::InputRequired);
        let wanted = read_input_required(&reply).unwrap();
        assert_eq!(wanted.questions[0].1.params.as_str(), r#"{"z":1}"#);
        assert_eq!(wanted.questions[1].1.kind, QuestionKind::Roots);
        assert_eq!(wanted.request_state.as_deref(), Some("s\n"));
        let next = build_continuation(vec![("a".to_owned(), Json::integer(1))], None);
        assert_eq!(next.input_responses.unwrap().as_str(), r#"{"a":1}"#);
        assert!(build_continuation(Vec::new(), None).is_empty());
    }

    #[test]
    fn visits_are_read_from_the_error_that_asks_for_them() {
        let mut error = RpcError::new(code::URL_ELICITATION_REQUIRED, "visit first");
        assert!(read_url_elicitations(&error).is_none());
        let data =
            r#"{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://a/b","message":"m"}]}"#;
        error.data = Some(Json::parse(data).unwrap());
        let elicitations = read_url_elicitations(&error).unwrap();
        assert_eq!(
            (elicitations[0].0.as_str(), elicitations[0].1.kind),
            ("visit-0", QuestionKind::Elicitation)
        );
        error.code = code::INTERNAL_ERROR;
        assert!(read_url_elicitations(&error).is_none());
    }
}
