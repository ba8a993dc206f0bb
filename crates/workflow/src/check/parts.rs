//! Parts that several checks need: templates, schemas, names.

use std::sync::Arc;

use serde_json::Value as Data;
use vmcp_runs::compile;
use vmcp_template::Template;

use super::{Findings, SharedValidator};

/// Compiles a JSON Schema that an operator wrote.
pub(super) fn validator(schema: &Data, path: &str, findings: &mut Findings) -> Option<SharedValidator> {
    match compile(schema) {
        Ok(validator) => Some(Arc::new(validator)),
        Err(error) => {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!(" at `{place}`") };
            findings.problem(path, format!("is no valid JSON Schema{place}: {error}"));
            None
        }
    }
}

/// Parses a template.
pub(super) fn template(text: &str, path: &str, findings: &mut Findings) -> Option<Template> {
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(error) => {
            findings.problem(path, format!("the template has an error at {error}"));
            None
        }
    }
}

/// Whether a text is a name for templates: letters, digits and `_`, not beginning with a digit.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// Whether a text can be the name of a tool.
pub(super) fn is_tool_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
