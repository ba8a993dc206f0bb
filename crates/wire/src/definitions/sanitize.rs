//! Repairs list items of backends for the strictest clients: one tool in a form that a client rejects would
//! make that client lose the tools of every other backend. A `null` member is dropped, an optional member of
//! a wrong type is omitted, and a schema gets its missing `type`. An item that lacks something irreplaceable
//! is omitted as a whole. Everything else stays byte for byte.
//! The rules are in `rules.rs`. The SDKs that they come from are listed in `reader_rules.txt` and run as
//! clients in `testing/e2e/tests/sdk_clients.rs`.

pub(crate) mod adjustments;
mod rules;
mod schema;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vmcp_domain::ProtocolVersion;
use vmcp_json::{Json, Members};

use self::rules::{MemberForm, OUTPUT, PROMPT, RESOURCE, Rule, SESSION_OUTPUT, TEMPLATE, TOOL};
use crate::jsonrpc::is_within_depth;

pub use crate::definitions::sanitize::adjustments::Adjustments;

/// The deepest nesting of an item. Some parsers accept 64 levels per message, and three of them enclose each
/// item.
const DEPTH_MAX: usize = 61;

/// A definition that can be listed, and what was repaired.
#[derive(Debug)]
pub(super) struct Sanitized {
    /// The members. Unchanged ones keep their bytes.
    pub(super) members: Members,
    /// The repairs other than dropped nulls, for the operator.
    pub(super) adjustments: Adjustments,
}

/// Repairs a tool of a server that speaks `version`.
///
/// # Errors
/// The reason why the tool cannot be listed.
pub(super) fn tool(json: &Json, version: ProtocolVersion) -> Result<Sanitized, String> {
    let mut sanitized = sanitize(json, TOOL)?;
    let output = if version.has_sessions() { SESSION_OUTPUT } else { OUTPUT };
    // An empty schema would still oblige the tool to return a structured result.
    if version.has_sessions()
        && sanitized.members.get("outputSchema").is_some_and(|schema| schema.as_str() == "{}")
    {
        sanitized.members.remove("outputSchema");
    }
    apply_rules(&mut sanitized.members, output, "", &mut sanitized.adjustments)?;
    Ok(sanitized)
}

/// Repairs a prompt.
///
/// # Errors
/// The reason why the prompt cannot be listed.
pub(super) fn prompt(json: &Json) -> Result<Sanitized, String> {
    sanitize(json, PROMPT)
}

/// Repairs a resource. Without a name it is named by its URI.
///
/// # Errors
/// The reason why the resource cannot be listed.
pub(super) fn resource(json: &Json) -> Result<Sanitized, String> {
    sanitize(&with_default_name(json, "uri"), RESOURCE)
}

/// Repairs a resource template. Without a name it is named by its URI template.
///
/// # Errors
/// The reason why the template cannot be listed.
pub(super) fn template(json: &Json) -> Result<Sanitized, String> {
    sanitize(&with_default_name(json, "uriTemplate"), TEMPLATE)
}

fn with_default_name(json: &Json, member: &str) -> Json {
    let Ok(mut members) = json.members() else { return json.clone() };
    let is_named = members.get("name").is_some_and(is_name);
    match members.get(member).cloned() {
        Some(address) if !is_named => {
            members.insert("name", address);
            members.to_json()
        }
        Some(_) | None => json.clone(),
    }
}

fn sanitize(json: &Json, rules: &[Rule]) -> Result<Sanitized, String> {
    if !is_within_depth(json.as_str().as_bytes(), DEPTH_MAX) {
        return Err(format!("it is nested deeper than {DEPTH_MAX} levels"));
    }
    let json = json.replace_lone_surrogates();
    let mut members = json.members().map_err(|error| error.to_string())?;
    let mut adjustments = Adjustments::default();
    apply_rules(&mut members, rules, "", &mut adjustments)?;
    Ok(Sanitized { members, adjustments })
}

/// True for a text that is more than white space.
fn is_name(value: &Json) -> bool {
    value.decode_string().is_some_and(|text| !text.trim().is_empty())
}

/// Removes members whose names differ from known ones only in letter case: some parsers read them as the
/// known ones.
fn remove_misspelled(members: &mut Members, rules: &[Rule], path: &str, adjustments: &mut Adjustments) {
    let is_misspelled =
        |name: &str| rules.iter().any(|(known, ..)| *known != name && known.eq_ignore_ascii_case(name));
    let misspelled: Vec<String> =
        members.iter().filter(|(name, _)| is_misspelled(name)).map(|(name, _)| name.into_owned()).collect();
    for name in misspelled {
        members.remove(&name);
        adjustments.push(format!("`{path}{name}` differs from a known member in case; it is left out"));
    }
}

/// Applies the rules to an object's members. The error names the required member that is missing or invalid.
fn apply_rules(
    members: &mut Members,
    rules: &[Rule],
    path: &str,
    adjustments: &mut Adjustments,
) -> Result<(), String> {
    remove_misspelled(members, rules, path, adjustments);
    for (name, form, required) in rules {
        let Some(value) = members.get(name).cloned() else {
            if *required {
                return Err(format!("`{path}{name}` is missing"));
            }
            continue;
        };
        if value.is_null() && !required {
            members.remove(name);
            continue;
        }
        match fit_value(&value, *form, &format!("{path}{name}"), adjustments) {
            Ok(None) => {}
            Ok(Some(fitted)) => members.insert(name, fitted),
            Err(fault) if *required => return Err(fault),
            Err(fault) => {
                members.remove(name);
                adjustments.push(format!("{fault}; the member is left out"));
            }
        }
    }
    Ok(())
}

/// Returns `None` for a value that has the form, else the repaired value.
fn fit_value(
    value: &Json,
    form: MemberForm,
    path: &str,
    adjustments: &mut Adjustments,
) -> Result<Option<Json>, String> {
    let is = |fits: bool, what: &str| if fits { Ok(None) } else { Err(format!("`{path}` is not {what}")) };
    match form {
        MemberForm::Text => is(value.as_str().starts_with('"'), "a text"),
        MemberForm::Boolean => is(matches!(value.as_str(), "true" | "false"), "true or false"),
        MemberForm::Name => match value.as_str().starts_with('"') {
            true => is(is_name(value), "more than white space"),
            false => is(false, "a text"),
        },
        MemberForm::Time => {
            is(value.decode_string().is_some_and(|text| is_time(&text)), "a time with its zone")
        }
        MemberForm::UnitInterval => is(
            value.decode::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number)),
            "a number from 0 to 1",
        ),
        MemberForm::Integer => fit_integer(value).map_err(|()| format!("`{path}` is not a whole number")),
        MemberForm::Object => is(value.is_object(), "an object"),
        MemberForm::ObjectSchema => schema::fit_object_schema(value, path, adjustments),
        MemberForm::OneOf(words) => is(
            value.decode_string().is_some_and(|text| words.contains(&text.as_str())),
            "one of the known words",
        ),
        MemberForm::Texts => is(value.decode::<Vec<String>>().is_ok(), "a list of texts"),
        MemberForm::OneOfTexts(words) => {
            let texts = value.decode::<Vec<String>>().unwrap_or_default();
            is(
                !texts.is_empty() && texts.iter().all(|text| words.contains(&text.as_str())),
                "a list of known words",
            )
        }
        MemberForm::List(rules) => fit_list(value, rules, path, adjustments),
        MemberForm::Record(rules) => {
            let mut members = value.members().map_err(|_| format!("`{path}` is not an object"))?;
            let before = members.clone();
            apply_rules(&mut members, rules, &format!("{path}."), adjustments)?;
            Ok((members != before).then(|| members.to_json()))
        }
    }
}

/// Returns `None` for a 64-bit integer. An integer that is written as a fraction is rewritten.
fn fit_integer(value: &Json) -> Result<Option<Json>, ()> {
    /// From this value on an `f64` no longer represents every integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.decode::<i64>().is_ok() && !value.as_str().contains(['.', 'e', 'E']) {
        return Ok(None);
    }
    let number: f64 = value.decode().map_err(|_| ())?;
    if number.fract() == 0.0 && number.abs() < EXACT_MAX {
        Json::parse(format!("{number:.0}")).map(Some).map_err(|_| ())
    } else {
        Err(())
    }
}

/// True for an RFC 3339 time such as `2025-01-12T15:00:58Z`, with capital letters.
fn is_time(text: &str) -> bool {
    text.len() <= 35 && !text.contains(['t', 'z', ' ']) && OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

fn fit_list(
    value: &Json,
    rules: &'static [Rule],
    path: &str,
    adjustments: &mut Adjustments,
) -> Result<Option<Json>, String> {
    let elements = value.elements().map_err(|_| format!("`{path}` is not a list"))?;
    if rules.is_empty() {
        return Ok(None);
    }
    let (mut retained, mut is_changed) = (Vec::with_capacity(elements.len()), false);
    for (index, element) in elements.iter().enumerate() {
        match fit_value(element, MemberForm::Record(rules), &format!("{path}[{index}]"), adjustments) {
            Ok(None) => retained.push(element.clone()),
            Ok(Some(fitted)) => {
                is_changed = true;
                retained.push(fitted);
            }
            Err(fault) => {
                is_changed = true;
                adjustments.push(format!("{fault}; the element is left out"));
            }
        }
    }
    Ok(is_changed.then(|| Json::array(&retained)))
}

#[cfg(test)]
mod tests;
