//! Answers the questions of a run: with the answers of the command line, or by asking on the terminal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use vmcp_domain::{
    AskError, BoxFuture, ClientCapabilities, ClientKey, ClientPort, LogLevel, Question, QuestionKind,
};
use vmcp_json::{Json, Members};
use vmcp_runs::question::ASKED_AGAIN;

use super::run_log::RunLog;
use crate::terminal;

/// The answers by the identifiers of the steps that ask, each for one question after the other. The last is repeated.
pub(in crate::commands) type Answers = BTreeMap<String, Vec<Value>>;

/// Reads the answers of the command line: `STEP=JSON`, `STEP=decline` or `STEP=cancel`.
pub(in crate::commands) fn parse_answers(texts: &[String]) -> anyhow::Result<Answers> {
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

/// A client that answers questions.
#[derive(Debug)]
pub(in crate::commands) struct AnsweringClient {
    capabilities: ClientCapabilities,
    log: Arc<RunLog>,
    answers: Mutex<Answers>,
    /// The questions that were asked, and the steps that asked them.
    asked: Mutex<Vec<(String, String)>>,
    /// The lines of the terminal. One question is asked at a time.
    terminal: Option<tokio::sync::Mutex<TerminalLines>>,
}

impl AnsweringClient {
    /// Answers with `answers`, and asks on the terminal what they do not answer. Without a terminal and without answers,
    /// the client cannot be asked.
    pub(in crate::commands) fn new(answers: Answers, log: Arc<RunLog>) -> Arc<Self> {
        let terminal = has_terminal().then(|| tokio::sync::Mutex::new(TerminalLines::start()));
        let mut declared = Members::new();
        if !answers.is_empty() || terminal.is_some() {
            declared.insert("elicitation", Json::empty_object());
        }
        Arc::new(Self {
            capabilities: ClientCapabilities { declared },
            log,
            answers: Mutex::new(answers),
            asked: Mutex::default(),
            terminal,
        })
    }

    /// The step that asks this. A question that is asked again begins with the first one.
    fn step_of(&self, message: &str) -> Option<String> {
        let mut asked = self.asked.lock();
        let again = |(first, _): &&(String, String)| {
            message.strip_prefix(first.as_str()).is_some_and(|rest| rest.starts_with(ASKED_AGAIN))
        };
        if let Some((_, step)) = asked.iter().find(again) {
            return Some(step.clone());
        }
        // A step asks in the same moment in which it starts.
        let step = self.log.asking_step()?;
        asked.push((message.to_owned(), step.clone()));
        Some(step)
    }

    /// The answer of the command line to the question of a step.
    fn prepared(&self, step: &str) -> Option<Value> {
        let mut answers = self.answers.lock();
        let of_step = answers.get_mut(step)?;
        if of_step.len() > 1 { Some(of_step.remove(0)) } else { of_step.first().cloned() }
    }

    async fn answer(&self, params: &Value) -> Result<Value, AskError> {
        let message = params["message"].as_str().unwrap_or_default();
        let step = self.step_of(message);
        if let Some(answer) = step.as_deref().and_then(|step| self.prepared(step)) {
            terminal::print_error(format_args!("question: {message}\nanswer: {answer}"));
            return Ok(answer);
        }
        let Some(lines) = &self.terminal else {
            terminal::print_error(format_args!("question: {message}"));
            return Err(AskError::Unreachable);
        };
        let mut lines = lines.lock().await;
        terminal::print_error(format_args!("question: {message}"));
        Ok(lines.ask(&params["requestedSchema"]).await)
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
            let answer = self.answer(&params).await?;
            Json::encode(&answer).map_err(|_| AskError::Unreachable)
        })
    }
}

/// Whether a person can be asked.
pub(in crate::commands) fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// The lines that a person types. A thread reads them, so that a question that takes too long takes no line of the next
/// one.
#[derive(Debug)]
struct TerminalLines(UnboundedReceiver<String>);

impl TerminalLines {
    fn start() -> Self {
        let (sender, receiver) = unbounded_channel();
        // The thread ends with the process, or at the end of the input.
        std::thread::spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// Asks for each property of the schema in turn.
    async fn ask(&mut self, schema: &Value) -> Value {
        // What was typed before is no answer to this question.
        while self.0.try_recv().is_ok() {}
        let choice = self.read("accept, decline or cancel? [accept] ").await;
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
            let Some(line) = self.read(&format!("{title} ({kind}, {note}): ")).await else {
                return cancelled();
            };
            if !line.trim().is_empty() {
                content.insert(name.clone(), typed(line.trim(), kind));
            }
        }
        json!({"action": "accept", "content": content})
    }

    /// A line. `None` at the end of the input.
    async fn read(&mut self, prompt: &str) -> Option<String> {
        // A prompt that cannot be written is missing, and the line may be read nevertheless.
        let _ = io::stderr().write_all(vmcp_domain::escape_controls(prompt).as_bytes());
        self.0.recv().await
    }
}

fn cancelled() -> Value {
    json!({"action": "cancel"})
}

/// A line as a value of this JSON type. What is no such value stays a text, which the run refuses with a reason.
fn typed(line: &str, kind: &str) -> Value {
    match kind {
        "string" => Value::from(line),
        _ => serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)),
    }
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
