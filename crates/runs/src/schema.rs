//! Values and their JSON Schemas.

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// The longest description of a problem in characters.
const PROBLEM_CHARS_MAX: usize = 300;

/// Compiles a JSON Schema of any draft. Without `$schema`, a schema may have the forms of the newest draft or of draft 4.
///
/// # Errors
/// If it is no JSON Schema.
pub fn compile(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    jsonschema::validator_for(schema).or_else(|error| jsonschema::draft4::new(schema).map_err(|_| error))
}

/// The first reason why a value does not fit a schema, without the value itself: it may be long or secret.
#[must_use]
pub fn schema_problem(validator: &Validator, value: &Value) -> Option<String> {
    let error = validator.validate(value).err()?;
    let place = error.instance_path().to_string();
    let problem = error.masked_with("the value").to_string();
    let problem = match place.trim_start_matches('/') {
        "" => problem,
        place => format!("`{place}`: {problem}"),
    };
    Some(problem.chars().take(PROBLEM_CHARS_MAX).collect())
}
