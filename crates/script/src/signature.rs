//! The signature of a tool in TypeScript, from its JSON Schemas.

mod types;

use std::fmt::Write as _;

use serde_json::Value;

use types::{Types, doc_comment};
use vmcp_script_worker::is_identifier;

/// Whether a signature has the descriptions of the tool and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Documentation {
    /// As comments.
    Comments,
    /// None.
    Omitted,
}

/// The longest signature in bytes. Of a longer one only the names of the arguments are left.
const SIGNATURE_BYTES_MAX: usize = 16 << 10;

/// The signature of a tool: `name(args: {…}): Promise<…>`.
#[must_use]
pub fn signature(
    name: &str,
    description: Option<&str>,
    (input, output): (Option<&Value>, Option<&Value>),
    documentation: Documentation,
) -> String {
    let full = write(name, description, (input, output), documentation);
    if full.len() <= SIGNATURE_BYTES_MAX {
        return full;
    }
    let short = write(name, description, (input, output), Documentation::Omitted);
    if short.len() <= SIGNATURE_BYTES_MAX {
        return short;
    }
    write(name, description, (None, None), Documentation::Omitted)
}

fn write(
    name: &str,
    description: Option<&str>,
    (input, output): (Option<&Value>, Option<&Value>),
    documentation: Documentation,
) -> String {
    let mut text = String::new();
    if let Some(description) = description.filter(|_| documentation == Documentation::Comments) {
        text.push_str(&doc_comment(description));
    }
    let name = if is_identifier(name) { name.to_owned() } else { Value::from(name).to_string() };
    let arguments = input.map_or_else(
        || "args?: Record<string, unknown>".to_owned(),
        |schema| {
            let has_required =
                schema.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
            let optional = if has_required { "" } else { "?" };
            format!("args{optional}: {}", Types::of(schema, documentation).text())
        },
    );
    let result = output.map_or_else(|| "unknown".to_owned(), |schema| result_type(schema, documentation));
    // Writing into a string cannot fail.
    let _ = write!(text, "{name}({arguments}): Promise<{result}>");
    text
}

/// The type of what a script gets: structured content that has `result` only is that.
fn result_type(schema: &Value, documentation: Documentation) -> String {
    let properties = schema.get("properties").and_then(Value::as_object);
    match properties
        .filter(|properties| properties.len() == 1)
        .and_then(|properties| properties.get("result"))
    {
        Some(result) => Types::of(schema, documentation).text_of(result),
        None => Types::of(schema, documentation).text(),
    }
}

#[cfg(test)]
mod tests;
