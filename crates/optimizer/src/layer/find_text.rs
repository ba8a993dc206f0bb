//! The text of a result of `find_tool`: a short list with enough of each tool to call it. Many clients show a model
//! the text only. The structured content has the whole definitions.

use serde_json::Value;
use vmcp_domain::Availability;

use crate::layer::signature;
use crate::optimizer::{SearchResult, SearchResults};

/// The most bytes of the text.
const TEXT_BYTES_MAX: usize = 12 << 10;
/// The most bytes of the arguments of one tool.
const ARGUMENTS_BYTES_MAX: usize = 900;
/// The most characters of the description of one tool.
const DESCRIPTION_CHARS_MAX: usize = 240;
/// A larger schema is not read.
const SCHEMA_BYTES_MAX: usize = 256 << 10;

/// Writes the text. `call_name` is the name of the tool that calls the others.
pub(crate) fn write(results: &SearchResults, call_name: &str) -> String {
    let count = results.tools.len();
    let mut text = match (count, results.fits) {
        (0, _) => {
            return "No tool fits. Search with other words, or for a single step of the task.".to_owned();
        }
        (_, false) => format!("Nothing fits well. The nearest of {} tools are:", results.tool_count),
        (1, true) => format!("1 of {} tools fits. Run it with {call_name}:", results.tool_count),
        (_, true) => {
            format!("{count} of {} tools fit, the best first. Run one with {call_name}:", results.tool_count)
        }
    };
    // Each tool is named, even if no space is left for more of it.
    let names: usize = results.tools.iter().map(|one| one.tool.name.as_str().len() + 8).sum();
    let mut bytes_left = TEXT_BYTES_MAX.saturating_sub(text.len() + names);
    for one in &results.tools {
        let details = details(one);
        let name = one.tool.name.as_str();
        text.push_str("\n\n");
        text.push_str(name);
        if details.len() <= bytes_left {
            bytes_left -= details.len();
            text.push_str(&details);
        } else {
            text.push_str("(…)");
        }
    }
    text
}

/// The arguments, the description and the availability of a tool.
fn details(result: &SearchResult) -> String {
    let schema = result.tool.definition.get("inputSchema");
    let schema = schema.filter(|json| json.as_str().len() <= SCHEMA_BYTES_MAX);
    let schema = schema.and_then(|json| json.decode::<Value>().ok());
    let mut text = match &schema {
        Some(schema) => signature::arguments(schema, ARGUMENTS_BYTES_MAX),
        None => "(…)".to_owned(),
    };
    let description = short_description(result.tool.description.as_deref().unwrap_or_default());
    if !description.is_empty() {
        text.push_str("\n  ");
        text.push_str(&description);
    }
    match &result.availability {
        Availability::Available => {}
        Availability::Unavailable => text.push_str("\n  Not now: the server of this tool cannot be reached."),
        Availability::RateLimited(limit) => {
            text.push_str("\n  Not now: ");
            text.push_str(&limit.to_string());
        }
    }
    text
}

/// The beginning of a description in one line, up to the end of a sentence if one is near.
fn short_description(description: &str) -> String {
    let words: String = description.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= DESCRIPTION_CHARS_MAX {
        return words;
    }
    let cut: String = words.chars().take(DESCRIPTION_CHARS_MAX).collect();
    match cut.rfind(". ") {
        Some(end) if end > DESCRIPTION_CHARS_MAX / 3 => cut.get(..=end).unwrap_or(&cut).to_owned(),
        _ => format!("{}…", cut.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_descriptions_end_with_a_sentence_if_one_is_near() {
        assert_eq!(short_description(" Reads\n a   file. "), "Reads a file.");
        let long = format!("{}. {}", "a".repeat(150), "b ".repeat(300));
        assert_eq!(short_description(&long), format!("{}.", "a".repeat(150)));
        let endless = "word ".repeat(100);
        let short = short_description(&endless);
        assert!(short.ends_with("word…") && short.chars().count() <= DESCRIPTION_CHARS_MAX + 1, "{short}");
    }
}
