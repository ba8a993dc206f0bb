//! What is said of a key that the schema does not have.

use serde_json::{Map, Value};

use crate::report::{Problem, ProblemCode, nearest_name};

/// The most known keys that are listed.
const LISTED_KEYS_MAX: usize = 8;

/// The problem of an unknown key, and the known key that was probably meant.
pub(super) fn unknown_key_problem<'a>(
    key: &str,
    path: &str,
    known: &'a Map<String, Value>,
) -> (Problem, Option<&'a str>) {
    let names = || known.keys().map(String::as_str);
    let nearest_key = nearest_name(key, names());
    let mut problem =
        Problem::new(path, "unknown key").with_code(ProblemCode::UnknownKey).with_nearest(key, names());
    if let Some(remedy) = remedy(key) {
        problem = problem.with_hint(remedy);
    } else if nearest_key.is_none() && known.len() <= LISTED_KEYS_MAX {
        let names: Vec<_> = names().map(|name| format!("`{name}`")).collect();
        problem = problem.with_hint(format!("known keys are {}", names.join(", ")));
    }
    (problem, nearest_key)
}

/// What to write instead of a key. These are in ToolHive's documentation, and do not exist there either.
fn remedy(key: &str) -> Option<&'static str> {
    match key {
        "failureMode" => Some("write `onError` at each step"),
        "maxRetries" => Some("write `retryCount`"),
        "defaultResponse" => Some("write `defaultResults`"),
        _ => None,
    }
}
