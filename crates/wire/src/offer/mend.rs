//! What backends list, made fit for the strictest clients: one tool in a form that a client refuses would cost that client
//! the tools of every other backend. A `null` member is dropped, an optional member of a wrong type is left out, a
//! schema gets its `type`; what lacks something that cannot be supplied is left out whole. Everything else stays byte
//! for byte.
//! Sources: the schemas of 2025-11-25 and 2026-07-28; the readers of the TypeScript, Python, Go and Rust SDKs, whose
//! strictest rule for each member counts and which run as clients in `tests-e2e/tests/strict_clients.rs`.

use serde_json::Value;
use vmcp_domain::{Json, Members, ProtocolVersion};

/// A definition that can be listed, and what was changed about it.
#[derive(Debug)]
pub(super) struct Mended {
    /// The members, the bytes of all that was not changed as they came.
    pub(super) members: Members,
    /// What was changed besides dropped nulls, for the operator.
    pub(super) changes: Vec<String>,
}

/// The form that a member must have.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    Flag,
    Number,
    Object,
    /// A JSON Schema whose type is `object`.
    ObjectSchema,
    /// An array; elements of another form are left out.
    List(&'static [Rule]),
    /// An object with these members.
    Record(&'static [Rule]),
    /// An array of these texts.
    OneOfTexts(&'static [&'static str]),
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

/// A member, its form, and whether it must be there.
type Rule = (&'static str, Form, bool);

const ICON: &[Rule] =
    &[("src", Form::Text, true), ("mimeType", Form::Text, false), ("sizes", Form::List(&[]), false)];
const TOOL_ANNOTATIONS: &[Rule] = &[
    ("title", Form::Text, false),
    ("readOnlyHint", Form::Flag, false),
    ("destructiveHint", Form::Flag, false),
    ("idempotentHint", Form::Flag, false),
    ("openWorldHint", Form::Flag, false),
];
const ANNOTATIONS: &[Rule] = &[
    ("audience", Form::OneOfTexts(&["user", "assistant"]), false),
    ("priority", Form::Number, false),
    ("lastModified", Form::Text, false),
];
const EXECUTION: &[Rule] = &[("taskSupport", Form::OneOf(&["forbidden", "optional", "required"]), false)];
const ARGUMENT: &[Rule] = &[
    ("name", Form::Text, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("required", Form::Flag, false),
];

/// The members of a tool but for its output schema.
const TOOL: &[Rule] = &[
    ("name", Form::Text, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("inputSchema", Form::ObjectSchema, true),
    ("annotations", Form::Record(TOOL_ANNOTATIONS), false),
    ("execution", Form::Record(EXECUTION), false),
    ("icons", Form::List(ICON), false),
    ("_meta", Form::Object, false),
];
/// With sessions structured results are objects; in 2026-07-28 they are anything.
const SESSION_OUTPUT: &[Rule] = &[("outputSchema", Form::ObjectSchema, false)];
const OUTPUT: &[Rule] = &[("outputSchema", Form::Object, false)];
const PROMPT: &[Rule] = &[
    ("name", Form::Text, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("arguments", Form::List(ARGUMENT), false),
    ("icons", Form::List(ICON), false),
    ("_meta", Form::Object, false),
];
const RESOURCE: &[Rule] = &[
    ("uri", Form::Text, true),
    ("name", Form::Text, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("mimeType", Form::Text, false),
    ("size", Form::Number, false),
    ("annotations", Form::Record(ANNOTATIONS), false),
    ("icons", Form::List(ICON), false),
    ("_meta", Form::Object, false),
];
const TEMPLATE: &[Rule] = &[
    ("uriTemplate", Form::Text, true),
    ("name", Form::Text, true),
    ("title", Form::Text, false),
    ("description", Form::Text, false),
    ("mimeType", Form::Text, false),
    ("annotations", Form::Record(ANNOTATIONS), false),
    ("icons", Form::List(ICON), false),
    ("_meta", Form::Object, false),
];

/// Mends a tool of a server of this revision.
///
/// # Errors
/// The reason why it cannot be listed.
pub(super) fn tool(json: &Json, version: ProtocolVersion) -> Result<Mended, String> {
    let mut mended = mend(json, TOOL)?;
    let output = if version.has_sessions() { SESSION_OUTPUT } else { OUTPUT };
    // A schema that says nothing would still oblige the tool to give a structured result.
    if version.has_sessions()
        && mended.members.get("outputSchema").is_some_and(|schema| schema.as_str() == "{}")
    {
        mended.members.take("outputSchema");
    }
    apply(&mut mended.members, output, "", &mut mended.changes)?;
    Ok(mended)
}

/// Mends a prompt.
///
/// # Errors
/// The reason why it cannot be listed.
pub(super) fn prompt(json: &Json) -> Result<Mended, String> {
    mend(json, PROMPT)
}

/// Mends a resource. One without a name is named by its address.
///
/// # Errors
/// The reason why it cannot be listed.
pub(super) fn resource(json: &Json) -> Result<Mended, String> {
    mend(&named(json, "uri"), RESOURCE)
}

/// Mends a resource template. One without a name is named by its address.
///
/// # Errors
/// The reason why it cannot be listed.
pub(super) fn template(json: &Json) -> Result<Mended, String> {
    mend(&named(json, "uriTemplate"), TEMPLATE)
}

fn named(json: &Json, member: &str) -> Json {
    let Ok(mut members) = json.members() else { return json.clone() };
    let is_named = members.get("name").is_some_and(|name| name.as_str().starts_with('"'));
    match members.get(member).cloned() {
        Some(address) if !is_named => {
            members.set("name", address);
            members.to_json()
        }
        Some(_) | None => json.clone(),
    }
}

fn mend(json: &Json, rules: &[Rule]) -> Result<Mended, String> {
    let json = without_lone_surrogates(json);
    let mut members = json.members().map_err(|error| error.to_string())?;
    let mut changes = Vec::new();
    apply(&mut members, rules, "", &mut changes)?;
    Ok(Mended { members, changes })
}

/// Applies the rules to an object's members. An error names the member that cannot be supplied.
fn apply(members: &mut Members, rules: &[Rule], path: &str, changes: &mut Vec<String>) -> Result<(), String> {
    for (name, form, required) in rules {
        let Some(value) = members.get(name).cloned() else {
            if *required {
                return Err(format!("`{path}{name}` is missing"));
            }
            continue;
        };
        if value.is_null() && !required {
            members.take(name);
            continue;
        }
        match fitted(&value, *form, &format!("{path}{name}"), changes) {
            Ok(None) => {}
            Ok(Some(fitted)) => members.set(name, fitted),
            Err(fault) if *required => return Err(fault),
            Err(fault) => {
                members.take(name);
                changes.push(format!("{fault}; the member is left out"));
            }
        }
    }
    Ok(())
}

/// `None` for a value that has the form, else the value with that form.
fn fitted(value: &Json, form: Form, path: &str, changes: &mut Vec<String>) -> Result<Option<Json>, String> {
    let is = |fits: bool, what: &str| if fits { Ok(None) } else { Err(format!("`{path}` is not {what}")) };
    match form {
        Form::Text => is(value.as_str().starts_with('"'), "a text"),
        Form::Flag => is(matches!(value.as_str(), "true" | "false"), "true or false"),
        Form::Number => is(value.as_str().starts_with(|c: char| c.is_ascii_digit() || c == '-'), "a number"),
        Form::Object => is(value.is_object(), "an object"),
        Form::ObjectSchema => schema(value, path, changes),
        Form::OneOf(words) => {
            is(value.to_text().is_some_and(|text| words.contains(&text.as_str())), "one of the known words")
        }
        Form::OneOfTexts(words) => {
            let texts = value.decode::<Vec<String>>().unwrap_or_default();
            is(
                !texts.is_empty() && texts.iter().all(|text| words.contains(&text.as_str())),
                "a list of known words",
            )
        }
        Form::List(rules) => list(value, rules, path, changes),
        Form::Record(rules) => {
            let mut members = value.members().map_err(|_| format!("`{path}` is not an object"))?;
            let before = members.clone();
            apply(&mut members, rules, &format!("{path}."), changes)?;
            Ok((members != before).then(|| members.to_json()))
        }
    }
}

fn list(
    value: &Json,
    rules: &'static [Rule],
    path: &str,
    changes: &mut Vec<String>,
) -> Result<Option<Json>, String> {
    let elements = value.elements().map_err(|_| format!("`{path}` is not a list"))?;
    if rules.is_empty() {
        return Ok(None);
    }
    let (mut kept, mut is_changed) = (Vec::with_capacity(elements.len()), false);
    for (index, element) in elements.iter().enumerate() {
        match fitted(element, Form::Record(rules), &format!("{path}[{index}]"), changes) {
            Ok(None) => kept.push(element.clone()),
            Ok(Some(fitted)) => {
                is_changed = true;
                kept.push(fitted);
            }
            Err(fault) => {
                is_changed = true;
                changes.push(format!("{fault}; the element is left out"));
            }
        }
    }
    Ok(is_changed.then(|| Json::list(&kept)))
}

/// A schema of type `object`, as every client demands one of arguments.
fn schema(value: &Json, path: &str, changes: &mut Vec<String>) -> Result<Option<Json>, String> {
    let mut members = value.members().map_err(|_| format!("`{path}` is not an object"))?;
    let before = members.clone();
    let has_object_type = match members.get("type").filter(|kind| !kind.is_null()) {
        None => false,
        Some(kind) => match kind.decode::<Value>() {
            Ok(Value::String(kind)) if kind == "object" => true,
            Ok(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "object") => false,
            _ => return Err(format!("`{path}.type` is not `object`")),
        },
    };
    if !has_object_type {
        members.set("type", Json::string("object"));
        changes.push(format!("`{path}` got `type: object`"));
    }
    for name in ["properties", "required"] {
        if members.get(name).is_some_and(Json::is_null) {
            members.take(name);
        }
    }
    if let Some(properties) = members.get("properties").cloned() {
        match mended_properties(&properties, path, changes) {
            Some(None) => {}
            Some(Some(properties)) => members.set("properties", properties),
            None => {
                members.take("properties");
                changes.push(format!("`{path}.properties` is not an object; it is left out"));
            }
        }
    }
    if let Some(required) = members.get("required")
        && required.decode::<Vec<String>>().is_err()
    {
        let elements = required.elements().unwrap_or_default();
        let texts: Vec<Json> = elements.into_iter().filter(|one| one.as_str().starts_with('"')).collect();
        members.set("required", Json::list(&texts));
        changes.push(format!("`{path}.required` is not a list of names; what is no name is left out"));
    }
    Ok((members != before).then(|| members.to_json()))
}

/// Properties whose schemas are objects: `true` becomes `{}` and `false` becomes `{"not":{}}`, which mean the same.
/// `Some(None)` where they are; `None` where there are no properties at all.
#[allow(
    clippy::option_option,
    reason = "no properties, none that changed, and changed ones are three things"
)]
fn mended_properties(properties: &Json, path: &str, changes: &mut Vec<String>) -> Option<Option<Json>> {
    let before = properties.members().ok()?;
    let mut after = Members::new();
    for (name, value) in before.iter() {
        let mended = match value.as_str() {
            "true" | "null" => Json::empty_object(),
            "false" => Json::parse(r#"{"not":{}}"#).ok()?,
            _ if value.is_object() => value.clone(),
            _ => {
                changes.push(format!("`{path}.properties.{name}` is no schema; it is left out"));
                continue;
            }
        };
        after.set(&name, mended);
    }
    let is_changed = after.len() != before.len() || !before.iter().all(|(_, value)| value.is_object());
    Some(is_changed.then(|| after.to_json()))
}

/// Half an emoji in a text is lawful JSON by its grammar, and refused by many readers: it becomes U+FFFD.
fn without_lone_surrogates(json: &Json) -> Json {
    let text = json.as_str();
    if !text.contains("\\u") {
        return json.clone();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(place) = rest.find('\\') {
        let (before, escape) = rest.split_at(place);
        out.push_str(before);
        let unit = |at: usize| {
            let digits = escape.get(at..)?.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        let (taken, is_lone) = match (unit(0), unit(6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, false),
            (Some(0xd800..=0xdfff), _) => (6, true),
            _ => (2, false),
        };
        let end = (taken..escape.len() + 1).find(|end| escape.is_char_boundary(*end)).unwrap_or(escape.len());
        out.push_str(if is_lone { "\\ufffd" } else { escape.get(..end).unwrap_or_default() });
        rest = escape.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    Json::parse(out).unwrap_or_else(|_| json.clone())
}

#[cfg(test)]
mod tests;
