//! What a script threw, and where.

use rquickjs::{CaughtError, Value};

use super::FILE;
use super::value::Helpers;
use crate::message::ScriptError;

/// An error of the worker, and not of the script.
pub(super) fn engine_error(message: &str) -> ScriptError {
    ScriptError { name: "Error".to_owned(), message: message.to_owned(), ..ScriptError::default() }
}

/// The error of a script. `shift` is how far its first line was moved to the right. Without helpers, a text that is no
/// valid Unicode is left out.
pub(super) fn script_error<'js>(
    error: CaughtError<'js>,
    shift: usize,
    helpers: Option<&Helpers<'js>>,
) -> Box<ScriptError> {
    let thrown = match error {
        CaughtError::Exception(exception) => exception.into_object(),
        CaughtError::Value(value) => {
            return Box::new(ScriptError { message: thrown_text(&value, helpers), ..engine_error("") });
        }
        CaughtError::Error(error) => return Box::new(engine_error(&error.to_string())),
    };
    let text = |name: &str| text_of(&thrown.get::<_, Value<'js>>(name).ok()?, helpers);
    let position = text("stack").and_then(|stack| position(&stack, shift));
    Box::new(ScriptError {
        name: text("name").unwrap_or_else(|| "Error".to_owned()),
        message: text("message").unwrap_or_default(),
        line: position.map(|(line, _)| line),
        column: position.map(|(_, column)| column),
        tool: text("tool"),
        request: thrown.get::<_, Option<f64>>("request").ok().flatten().map(|id| {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "identifiers count up from 1"
            )]
            let id = id as u64;
            id
        }),
    })
}

/// The text of a value that was thrown and is no error.
fn thrown_text<'js>(value: &Value<'js>, helpers: Option<&Helpers<'js>>) -> String {
    text_of(value, helpers).unwrap_or_else(|| {
        let shown = helpers.map(|helpers| helpers.shown(value)).unwrap_or_default();
        format!("the script threw {shown}")
    })
}

fn text_of<'js>(value: &Value<'js>, helpers: Option<&Helpers<'js>>) -> Option<String> {
    let text = value.as_string()?;
    match helpers {
        Some(helpers) => helpers.text(text).ok(),
        None => text.to_string().ok(),
    }
}

/// The first position in the script that a stack trace names.
fn position(stack: &str, shift: usize) -> Option<(u32, u32)> {
    let after = stack.split(FILE).nth(1)?.strip_prefix(':')?;
    let mut numbers = after.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (line, column) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let shift = if line == 1 { u32::try_from(shift).unwrap_or(0) } else { 0 };
    Some((line, column.saturating_sub(shift).max(1)))
}
