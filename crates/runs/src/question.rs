//! A question to the user, whose answer fits a schema.

use std::sync::Arc;

use jsonschema::Validator;
use vmcp_domain::{AskError, ClientPort, Question, QuestionKind};
use vmcp_json::{Json, Members};

use crate::schema::{compile, schema_problem};

/// What follows the text of a question that is asked again because its answer does not fit. The reason comes after it.
pub const ASKED_AGAIN: &str = "\n\nThe last answer cannot be used: ";
/// The largest answer in bytes.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The largest schema in bytes.
pub const SCHEMA_BYTES_MAX: usize = 100 << 10;

/// How the user reacted.
#[derive(Clone, Debug, PartialEq)]
pub enum Reaction {
    /// With these values.
    Accepted(Json),
    /// The user refused.
    Declined,
    /// The user did not decide, or gave an unusable answer twice.
    Cancelled,
}

impl Reaction {
    /// The word of the protocol (Elicitation, "Response Actions").
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accept",
            Self::Declined => "decline",
            Self::Cancelled => "cancel",
        }
    }
}

/// A question.
#[derive(Clone)]
pub struct Asked<'a> {
    message: &'a str,
    schema: Json,
    validator: Arc<Validator>,
}

/// The schema of a question that only wants consent.
#[must_use]
pub fn no_fields() -> Json {
    let mut schema = Members::new();
    schema.insert("type", Json::string("object"));
    schema.insert("properties", Json::empty_object());
    schema.to_json()
}

impl<'a> Asked<'a> {
    /// A question with a schema that comes from a client.
    ///
    /// # Errors
    /// If the schema is none, is too large, or does not describe an object.
    pub fn new(message: &'a str, schema: Json) -> Result<Self, String> {
        if schema.as_str().len() > SCHEMA_BYTES_MAX {
            return Err(format!("the schema of a question has more than {SCHEMA_BYTES_MAX} bytes"));
        }
        let data: serde_json::Value = schema.decode().map_err(|error| error.to_string())?;
        if data["type"] != "object" {
            return Err("the schema of a question must have the type \"object\"".to_owned());
        }
        let validator = compile(&data).map_err(|error| format!("the schema of a question: {error}"))?;
        Ok(Self { message, schema, validator: Arc::new(validator) })
    }

    /// A question with a schema that was checked before.
    #[must_use]
    pub fn checked(message: &'a str, schema: Json, validator: Arc<Validator>) -> Self {
        Self { message, schema, validator }
    }

    /// Asks, and asks once more if the answer does not fit the schema.
    ///
    /// # Errors
    /// If the client cannot be asked.
    pub async fn ask(&self, client: &dyn ClientPort) -> Result<Reaction, AskError> {
        let problem = match self.ask_once(client, self.message).await? {
            Ok(reaction) => return Ok(reaction),
            Err(problem) => problem,
        };
        let again = format!("{}{ASKED_AGAIN}{problem}", self.message);
        Ok(self.ask_once(client, &again).await?.unwrap_or(Reaction::Cancelled))
    }

    /// Asks once. The inner error says why the answer cannot be used.
    async fn ask_once(
        &self,
        client: &dyn ClientPort,
        message: &str,
    ) -> Result<Result<Reaction, String>, AskError> {
        let mut params = Members::new();
        params.insert("message", Json::string(message));
        params.insert("requestedSchema", self.schema.clone());
        let asked = Question { kind: QuestionKind::Elicitation, params: params.to_json() };
        if !client.capabilities().supports_question(&asked) {
            return Err(AskError::Unsupported(QuestionKind::Elicitation));
        }
        let answer = client.ask(asked).await?;
        if answer.as_str().len() > ANSWER_BYTES_MAX {
            return Ok(Err(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        let members = answer.members().unwrap_or_default();
        let action = members.get("action").and_then(Json::decode_string);
        Ok(match action.as_deref() {
            Some("accept") => {
                let content = members.get("content").cloned().unwrap_or_else(Json::empty_object);
                let data = content.decode::<serde_json::Value>().unwrap_or_default();
                match schema_problem(&self.validator, &data) {
                    None => Ok(Reaction::Accepted(content)),
                    Some(problem) => Err(problem),
                }
            }
            Some("decline") => Ok(Reaction::Declined),
            Some(_) | None => Ok(Reaction::Cancelled),
        })
    }
}
