//! The arguments of the script tool.

use serde_json::Value;
use vmcp_domain::EXECUTE_TOOL_SCRIPT;
use vmcp_json::Json;
use vmcp_script_worker::Language;

use crate::policy::ScriptPolicy;

/// The most calls that a budget may have.
const BUDGET_CALLS_MAX: u64 = 1000;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScriptArguments {
    pub(crate) script: String,
    /// An object.
    pub(crate) data: Json,
    /// `None` finds it out.
    pub(crate) language: Option<Language>,
    /// How many calls of which tools are reserved before the script starts.
    pub(crate) budget: Vec<(String, u64)>,
    /// Only checks the script.
    pub(crate) check_only: bool,
}

/// Reads the arguments.
///
/// # Errors
/// What is wrong with them, as a sentence for the client.
pub(crate) fn read(arguments: Option<&Json>, policy: &ScriptPolicy) -> Result<ScriptArguments, String> {
    let members = arguments.and_then(|json| json.members().ok()).unwrap_or_default();
    let given = |name: &str| members.get(name).filter(|json| !json.is_null());
    let script = given("script").and_then(Json::decode_string).filter(|script| !script.is_empty());
    // The words of ToolHive.
    let script = script
        .ok_or_else(|| format!("{EXECUTE_TOOL_SCRIPT} requires a non-empty 'script' string argument"))?;
    if script.len() > policy.script_bytes_max {
        return Err(format!(
            "the script has {} bytes, and at most {} are allowed; pass long texts in 'data'",
            script.len(),
            policy.script_bytes_max
        ));
    }
    let data = given("data").cloned().unwrap_or_else(Json::empty_object);
    if !data.is_object() {
        return Err(format!("'data' argument must be an object, got {}", go_type(&data)));
    }
    if data.as_str().len() > policy.reply_bytes_max {
        let (bytes, most) = (data.as_str().len(), policy.reply_bytes_max);
        return Err(format!("'data' has {bytes} bytes, and at most {most} are allowed"));
    }
    let language = match given("language").map(|json| json.decode_string().unwrap_or_default()).as_deref() {
        None => policy.language,
        Some("auto") => None,
        Some("javascript" | "js") => Some(Language::JavaScript),
        Some("starlark") => Some(Language::Starlark),
        Some(other) => return Err(format!("'language' must be javascript or starlark, and not {other:?}")),
    };
    let check_only = match given("check").map(Json::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err("'check' must be true or false".to_owned()),
    };
    Ok(ScriptArguments { script, data, language, budget: budget(given("budget"))?, check_only })
}

fn budget(given: Option<&Json>) -> Result<Vec<(String, u64)>, String> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let members = given.members().map_err(|_| "'budget' must be an object: {\"tool\": 3}".to_owned())?;
    let read = |(tool, count): (std::borrow::Cow<'_, str>, &Json)| match count.decode::<u64>() {
        Ok(count @ 1..) => Ok((tool.into_owned(), count)),
        Ok(0) | Err(_) => Err(format!("'budget.{tool}' must be an integer of at least 1")),
    };
    let budget: Vec<(String, u64)> = members.iter().map(read).collect::<Result<_, _>>()?;
    let total = budget.iter().fold(0_u64, |total, (_, count)| total.saturating_add(*count));
    if total > BUDGET_CALLS_MAX {
        return Err(format!("'budget' has {total} calls, and at most {BUDGET_CALLS_MAX} are allowed"));
    }
    Ok(budget)
}

/// The name of the type in Go, which is a part of ToolHive's answer.
fn go_type(json: &Json) -> &'static str {
    match json.decode::<Value>() {
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "float64",
        Ok(Value::Bool(_)) => "bool",
        Ok(Value::Array(_)) => "[]interface {}",
        Ok(Value::Null) | Err(_) => "<nil>",
        Ok(Value::Object(_)) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<ScriptArguments, String> {
        read(Some(&Json::parse(text.to_owned()).unwrap()), &ScriptPolicy::default())
    }

    #[test]
    fn arguments_are_read_or_refused_with_a_reason() {
        let full = r#"{"script":"1","data":{"a":1},"language":"javascript","budget":{"t":3},"check":true}"#;
        let read = read_text(full).unwrap();
        assert_eq!((read.script.as_str(), read.data.as_str(), read.check_only), ("1", r#"{"a":1}"#, true));
        assert_eq!(read.budget, [("t".to_owned(), 3)]);
        let nulls = r#"{"script":"1","data":null,"language":null,"budget":null,"check":null}"#;
        assert_eq!(read_text(nulls).unwrap().data.as_str(), "{}");
        let long = format!(r#"{{"script":"{}"}}"#, "x".repeat(70_000));
        for (text, reason) in [
            ("{}", "execute_tool_script requires a non-empty 'script' string argument"),
            (r#"{"script":""}"#, "execute_tool_script requires a non-empty 'script' string argument"),
            (r#"{"script":7}"#, "execute_tool_script requires a non-empty 'script' string argument"),
            (r#"{"script":"1","data":"x"}"#, "'data' argument must be an object, got string"),
            (r#"{"script":"1","data":[1]}"#, "'data' argument must be an object, got []interface {}"),
            (
                r#"{"script":"1","language":"cobol"}"#,
                "'language' must be javascript or starlark, and not \"cobol\"",
            ),
            (r#"{"script":"1","budget":{"t":0}}"#, "'budget.t' must be an integer of at least 1"),
            (r#"{"script":"1","budget":{"t":1.5}}"#, "'budget.t' must be an integer of at least 1"),
            (
                r#"{"script":"1","budget":{"t":2000}}"#,
                "'budget' has 2000 calls, and at most 1000 are allowed",
            ),
            (r#"{"script":"1","check":"yes"}"#, "'check' must be true or false"),
            (&long, "the script has 70000 bytes, and at most 65536 are allowed; pass long texts in 'data'"),
        ] {
            assert_eq!(read_text(text).unwrap_err(), reason);
        }
    }
}
