//! The functions that a script calls in Rust.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use starlark::PrintHandler;
use starlark::eval::Evaluator;
use starlark::values::Value;
use vmcp_json::{Json, Members};

use super::effects::is_repeatable;
use super::value;
use crate::gateway::Gateway;
use crate::log::Log;
use crate::message::{Failure, FromWorker, Outcome, Program, Request, ScriptError, ToWorker};

/// The gateway as a script sees it.
pub(super) struct StarlarkHost {
    gateway: Rc<Gateway>,
    pub(super) tools: Vec<String>,
    log: Log,
    next_id: Cell<u64>,
    /// Whether functions may run again, see [`is_repeatable`].
    pub(super) is_repeatable: bool,
    /// The function of `parallel` that runs now.
    pub(super) replay: RefCell<Option<Replay>>,
    /// The last call that failed.
    failed: RefCell<Option<FailedCall>>,
}

/// A function that runs up to its next call whose answer is not known.
#[derive(Default)]
pub(super) struct Replay {
    /// The answers of its calls so far, with the identifiers of the requests.
    pub(super) answers: Vec<(u64, Outcome)>,
    /// How many of them it has read in this pass.
    pub(super) read: usize,
    /// The call that it waits for.
    pub(super) next: Option<Request>,
    /// The lines that it has printed in this pass.
    pub(super) printed: Vec<String>,
}

struct FailedCall {
    id: u64,
    tool: String,
    message: String,
}

impl StarlarkHost {
    pub(super) fn new(gateway: Rc<Gateway>, program: &Program) -> Self {
        Self {
            gateway,
            tools: program.tools.clone(),
            log: Log::new(program.log_bytes_max),
            next_id: Cell::new(1),
            is_repeatable: is_repeatable(&program.script),
            replay: RefCell::default(),
            failed: RefCell::default(),
        }
    }

    /// Sends a request.
    pub(super) fn send(&self, request: Request) -> starlark::Result<u64> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.gateway.send(&FromWorker::Request { id, request }).map_err(error)?;
        Ok(id)
    }

    /// Waits for an answer.
    pub(super) fn receive(&self) -> starlark::Result<(u64, Outcome)> {
        match self.gateway.receive().map_err(error)? {
            Some(ToWorker::Answer { id, outcome }) => Ok((id, outcome)),
            Some(ToWorker::Run(_)) | None => Err(error("the gateway has ended")),
        }
    }

    pub(super) fn print(&self, line: &str) -> starlark::Result<()> {
        self.log.send(&self.gateway, line).map_err(error)
    }

    /// The result of a tool.
    pub(super) fn call<'v>(
        &self,
        tool: &str,
        arguments: Json,
        evaluator: &Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let request = Request::Call { name: tool.to_owned(), arguments };
        let (id, outcome) = match self.known_answer(&request)? {
            Some(answered) => answered,
            None => {
                self.send(request)?;
                // Outside of `parallel` there is one request at a time.
                self.receive()?
            }
        };
        read(outcome).map(|json| value::from_json(evaluator.heap(), &json)).map_err(|message| {
            *self.failed.borrow_mut() =
                Some(FailedCall { id, tool: tool.to_owned(), message: message.clone() });
            error(message)
        })
    }

    /// The answer of a call that a function of `parallel` makes again. `None` outside of `parallel`.
    ///
    /// # Errors
    /// If the answer is not known yet: the function runs again when it is.
    fn known_answer(&self, request: &Request) -> starlark::Result<Option<(u64, Outcome)>> {
        let mut replay = self.replay.borrow_mut();
        let Some(replay) = replay.as_mut() else { return Ok(None) };
        if let Some(answer) = replay.answers.get(replay.read).cloned() {
            replay.read += 1;
            return Ok(Some(answer));
        }
        replay.next = Some(request.clone());
        Err(error("the answer of a call is not known yet"))
    }

    /// Adds the call whose failure ended the script to its error.
    pub(super) fn explain(&self, mut error: ScriptError) -> ScriptError {
        let failed = self.failed.borrow();
        if let Some(failed) = failed.as_ref().filter(|failed| error.message.ends_with(&failed.message)) {
            (error.tool, error.request) = (Some(failed.tool.clone()), Some(failed.id));
        }
        error
    }
}

impl PrintHandler for StarlarkHost {
    fn println(&self, text: &str) -> starlark::Result<()> {
        match self.replay.borrow_mut().as_mut() {
            // It is sent when the function has ended, because it may be printed again.
            Some(replay) => replay.printed.push(text.to_owned()),
            None => self.print(text)?,
        }
        Ok(())
    }
}

/// What a script gets of the outcome of a call, as from ToolHive: the structured content (its member `result` if it has no
/// other), else the content by kind.
///
/// # Errors
/// The text of a failure.
fn read(outcome: Outcome) -> Result<Json, String> {
    let result = match outcome {
        Outcome::Value(result) => result.members().unwrap_or_default(),
        Outcome::Failure(Failure { message, .. }) => return Err(message),
    };
    let content = result.get("content").and_then(|json| json.elements().ok()).unwrap_or_default();
    if result.get("isError").is_some_and(|json| json.as_str() == "true") {
        let text = content.iter().find_map(|item| text_of(item, "text"));
        return Err(text.unwrap_or_else(|| "tool execution error".to_owned()));
    }
    let Some(structured) = result.get("structuredContent").filter(|json| !json.is_null()) else {
        return Ok(by_kind(&content));
    };
    let members = structured.members().unwrap_or_default();
    Ok(members.get("result").filter(|_| members.len() == 1).unwrap_or(structured).clone())
}

/// The content by kind: `text`, `text_1`, `image_0`, `resource`. Nothing is null.
fn by_kind(content: &[Json]) -> Json {
    let (mut members, mut images) = (Members::new(), 0);
    for item in content {
        let (name, text) = match text_of(item, "type").as_deref() {
            Some("text") => ("text", text_of(item, "text")),
            Some("image") => ("image", text_of(item, "data")),
            Some("resource") => {
                let resource = item.members().unwrap_or_default().get("resource").cloned();
                let resource = resource.unwrap_or_else(Json::empty_object);
                ("resource", text_of(&resource, "text").or_else(|| text_of(&resource, "blob")))
            }
            Some(_) | None => continue,
        };
        let name = if name == "image" {
            images += 1;
            format!("image_{}", images - 1)
        } else {
            numbered(name, &members)
        };
        members.insert(&name, Json::string(&text.unwrap_or_default()));
    }
    if members.is_empty() { Json::null() } else { members.to_json() }
}

/// `text`, `text_1`, `text_2`.
fn numbered(name: &str, members: &Members) -> String {
    let taken = |name: &str| members.get(name).is_some();
    if !taken(name) {
        return name.to_owned();
    }
    (1..).map(|number| format!("{name}_{number}")).find(|name| !taken(name)).unwrap_or_default()
}

fn text_of(json: &Json, name: &str) -> Option<String> {
    json.members().ok()?.get(name)?.decode_string()
}

/// An error that ends a script.
pub(super) fn error(text: impl fmt::Display) -> starlark::Error {
    starlark::Error::new_other(anyhow::anyhow!("{text}"))
}
