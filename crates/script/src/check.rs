//! The check of a script that does not run.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use vmcp_domain::{BoxFuture, Reply};
use vmcp_json::Json;
use vmcp_script_worker::{Failure, Language, Outcome, Request, sanitized};
use vmcp_wire::tool_result;

use crate::arguments::ScriptArguments;
use crate::mentions::named_tools;
use crate::serve::{Host, ScriptEnd};
use crate::tools::ScriptTools;

/// A script that is only compiled asks for nothing.
#[derive(Default)]
pub(crate) struct NoHost {
    /// The language that was found out.
    language: Mutex<Option<Language>>,
}

impl Host for NoHost {
    fn answer(&self, _id: u64, _request: Request) -> BoxFuture<'_, Outcome> {
        Box::pin(std::future::ready(Outcome::Failure(Failure::default())))
    }

    fn language(&self, language: Language) {
        *self.language.lock().unwrap_or_else(PoisonError::into_inner) = Some(language);
    }

    fn log(&self, _line: &str) {}

    fn progress(&self, _message: &str, _done: Option<f64>, _total: Option<f64>) {}

    fn emit(&self, _item: Json) -> Result<(), String> {
        Ok(())
    }
}

/// What the check found: whether the script compiles, and which of the tools that it names exist.
pub(crate) fn answer(
    asked: &ScriptArguments,
    (host, end): (&NoHost, &ScriptEnd),
    tools: &ScriptTools,
) -> Reply {
    let found = *host.language.lock().unwrap_or_else(PoisonError::into_inner);
    let language = asked.language.or(found).unwrap_or(Language::JavaScript);
    let is_known =
        |name: &str| tools.get(name).is_some() || tools.names().iter().any(|known| sanitized(known) == name);
    let named: Vec<(String, bool)> = named_tools(&asked.script, language, tools.names())
        .into_iter()
        .map(|name| {
            let known = is_known(&name);
            (name, known)
        })
        .collect();
    let error = match end {
        ScriptEnd::Value(_) => Value::Null,
        ScriptEnd::Failed(error) => json!({
            "name": error.name, "message": error.message, "line": error.line, "column": error.column,
        }),
        ScriptEnd::Exceeded(text) => json!({"name": "Stopped", "message": text}),
        ScriptEnd::Lost => json!({"name": "Stopped", "message": "the script ended its engine"}),
    };
    let is_ok = error.is_null() && named.iter().all(|(_, known)| *known);
    let rows: Vec<Value> = named.iter().map(|(name, known)| json!({"name": name, "known": known})).collect();
    let mut checked = json!({"ok": is_ok, "language": language.as_str(), "tools": rows});
    if !error.is_null() {
        checked["error"] = error;
    }
    let json = Json::encode(&checked).unwrap_or_else(|_| Json::empty_object());
    let text = json.as_str().to_owned();
    tool_result::structured(json, &text)
}
