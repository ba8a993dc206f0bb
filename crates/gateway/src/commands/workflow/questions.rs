//! Answers the questions of a run: with the answers of the command line, or by asking on the terminal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use vmcp_domain::{
    AskError, BoxFuture, ClientCapabilities, ClientKey, ClientPort, LogLevel, Question, QuestionKind,
};
use vmcp_json::{Json, Members};

use super::mock::MockResults;
use super::run_log::RunLog;
use crate::terminal;

/// The answers by the identifiers of the steps that ask, each for one question after the other. The last is repeated.
pub(super) type Answers = BTreeMap<String, Vec<Value>>;

/// Reads the answers of the command line: `STEP=JSON`, `STEP=decline` or `STEP=cancel`.
pub(super) fn parse_answers(texts: &[String]) -> anyhow::Result<Answers> {
    let mut answers = Answers::new();
    for text in texts {
        let (step, answer) = text
            .split_once('=')
            .with_context(|| format!("--answer {text} does not have the form STEP=JSON"))?;
        let answer = match answer {
            "decline" | "cancel" => json!({"action": answer}),
            content => {
                let content: Map<String, Value> = serde_json::from_str(content).with_context(|| {
                    format!("--answer {text}: write a JSON object, `decline` or `cancel` after `=`")
                })?;
                json!({"action": "accept", "content": content})
            }
        };
        answers.entry(step.to_owned()).or_default().push(answer);
    }
    Ok(answers)
}

/// The members of a mock file that are answers to questions.
pub(super) fn mock_answers(results: &MockResults) -> Answers {
    let is_answer = |results: &[Value]| results.iter().all(|result| result["action"].is_string());
    let answers = results.iter().filter(|(_, results)| is_answer(results));
    answers.map(|(step, results)| (step.clone(), results.clone())).collect()
}

/// A client that answers questions.
#[derive(Debug)]
pub(super) struct AnsweringClient {
    capabilities: ClientCapabilities,
    log: Arc<RunLog>,
    answers: Mutex<Answers>,
}

impl AnsweringClient {
    /// Answers with `answers`, and asks on the terminal what they do not answer. Without a terminal and without answers,
    /// the client cannot be asked.
    pub(super) fn new(answers: Answers, log: Arc<RunLog>) -> Arc<Self> {
        let mut declared = Members::new();
        if !answers.is_empty() || has_terminal() {
            declared.insert("elicitation", Json::empty_object());
        }
        Arc::new(Self { capabilities: ClientCapabilities { declared }, log, answers: Mutex::new(answers) })
    }

    /// The answer of the command line to the step that asks.
    fn prepared(&self) -> Option<Value> {
        let mut answers = self.answers.lock();
        let of_step = answers.get_mut(&self.log.asking_step()?)?;
        if of_step.len() > 1 { Some(of_step.remove(0)) } else { of_step.first().cloned() }
    }
}

impl ClientPort for AnsweringClient {
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
        None
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        Box::pin(async move {
            if question.kind != QuestionKind::Elicitation {
                return Err(AskError::Unreachable);
            }
            let params: Value = question.params.decode().unwrap_or_default();
            terminal::print_error(format_args!(
                "question: {}",
                params["message"].as_str().unwrap_or_default()
            ));
            let answer = match self.prepared() {
                Some(answer) => {
                    terminal::print_error(format_args!("answer: {answer}"));
                    answer
                }
                None if has_terminal() => {
                    let asked = tokio::task::spawn_blocking(move || ask_person(&params["requestedSchema"]));
                    asked.await.unwrap_or_else(|_| cancelled())
                }
                None => return Err(AskError::Unreachable),
            };
            Json::encode(&answer).map_err(|_| AskError::Unreachable)
        })
    }
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn cancelled() -> Value {
    json!({"action": "cancel"})
}

/// Asks for each property of the schema in turn.
fn ask_person(schema: &Value) -> Value {
    let choice = read_line("accept, decline or cancel? [accept] ");
    match choice.as_deref().map(str::trim) {
        Some("" | "a" | "accept" | "y" | "yes") => {}
        Some("d" | "decline" | "n" | "no") => return json!({"action": "decline"}),
        Some(_) | None => return cancelled(),
    }
    let properties = schema["properties"].as_object();
    let required = schema["required"].as_array();
    let mut content = Map::new();
    for (name, property) in properties.into_iter().flatten() {
        let is_required = required.is_some_and(|names| names.iter().any(|one| one == name.as_str()));
        let kind = property["type"].as_str().unwrap_or("string");
        let note = if is_required { "required" } else { "optional" };
        let title = property["title"].as_str().or(property["description"].as_str()).unwrap_or(name);
        let Some(line) = read_line(&format!("{title} ({kind}, {note}): ")) else { return cancelled() };
        if !line.trim().is_empty() {
            content.insert(name.clone(), typed(line.trim(), kind));
        }
    }
    json!({"action": "accept", "content": content})
}

/// A line as a value of this JSON type. What is no such value stays a text, which the run refuses with a reason.
fn typed(line: &str, kind: &str) -> Value {
    match kind {
        "string" => Value::from(line),
        _ => serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)),
    }
}

/// A line of standard input. `None` at its end.
fn read_line(prompt: &str) -> Option<String> {
    // A prompt that cannot be written is missing, and the line may be read nevertheless.
    let _ = io::stderr().write_all(vmcp_domain::escape_controls(prompt).as_bytes());
    let mut line = String::new();
    let count = io::stdin().read_line(&mut line).ok()?;
    (count > 0).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_objects_or_refusals() {
        let texts = ["a={\"n\": 1}", "b=decline", "a={\"n\": 2}"].map(str::to_owned);
        let answers = parse_answers(&texts).unwrap();
        let accept = |n: u32| json!({"action": "accept", "content": {"n": n}});
        assert_eq!(answers["a"], [accept(1), accept(2)]);
        assert_eq!(answers["b"], [json!({"action": "decline"})]);
        for wrong in ["a", "a=1", "a=", "a=yes"] {
            assert!(parse_answers(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_have_the_type_that_is_asked_for() {
        assert_eq!(typed("7", "integer"), json!(7));
        assert_eq!(typed("7", "string"), json!("7"));
        assert_eq!(typed("true", "boolean"), json!(true));
        assert_eq!(typed("seven", "integer"), json!("seven"));
    }
}
