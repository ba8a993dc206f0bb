//! What backends list, made fit for the strictest clients: one tool in a form that a client refuses would cost that client
//! the tools of every other backend. A `null` member is dropped, an optional member of a wrong type is left out, a
//! schema gets its `type`; what lacks something that cannot be supplied is left out whole. Everything else stays byte
//! for byte.
//! The rules are in `rules.rs`; the SDKs that they come from in `reader_rules.txt`, and as running clients in
//! `tests-e2e/tests/strict_clients.rs`.

mod changes;
mod rules;
mod schema;
mod surrogates;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vmcp_domain::{Json, Members, ProtocolVersion};

use self::rules::{Form, OUTPUT, PROMPT, RESOURCE, Rule, SESSION_OUTPUT, TEMPLATE, TOOL};
use self::surrogates::without_lone_surrogates;
use crate::jsonrpc::depth_within;

pub use self::changes::Changes;

/// How deep an item may be nested. Some readers take 64 levels of a message, of which three are around each item.
const DEPTH_MAX: usize = 61;

/// A definition that can be listed, and what was changed about it.
#[derive(Debug)]
pub(super) struct Mended {
    /// The members, the bytes of all that was not changed as they came.
    pub(super) members: Members,
    /// What was changed besides dropped nulls, for the operator.
    pub(super) changes: Changes,
}

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
    let is_named = members.get("name").is_some_and(is_name);
    match members.get(member).cloned() {
        Some(address) if !is_named => {
            members.set("name", address);
            members.to_json()
        }
        Some(_) | None => json.clone(),
    }
}

fn mend(json: &Json, rules: &[Rule]) -> Result<Mended, String> {
    if !depth_within(json.as_str().as_bytes(), DEPTH_MAX) {
        return Err(format!("it is nested deeper than {DEPTH_MAX} levels"));
    }
    let json = without_lone_surrogates(json);
    let mut members = json.members().map_err(|error| error.to_string())?;
    let mut changes = Changes::default();
    apply(&mut members, rules, "", &mut changes)?;
    Ok(Mended { members, changes })
}

/// True for a text that is more than white space.
fn is_name(value: &Json) -> bool {
    value.to_text().is_some_and(|text| !text.trim().is_empty())
}

/// Leaves out members whose names differ from known ones in case only: some readers take them for those.
fn take_misspelt(members: &mut Members, rules: &[Rule], path: &str, changes: &mut Changes) {
    let is_misspelt =
        |name: &str| rules.iter().any(|(known, ..)| *known != name && known.eq_ignore_ascii_case(name));
    let misspelt: Vec<String> =
        members.iter().filter(|(name, _)| is_misspelt(name)).map(|(name, _)| name.into_owned()).collect();
    for name in misspelt {
        members.take(&name);
        changes.push(format!("`{path}{name}` differs from a known member in case; it is left out"));
    }
}

/// Applies the rules to an object's members. An error names the member that cannot be supplied.
fn apply(members: &mut Members, rules: &[Rule], path: &str, changes: &mut Changes) -> Result<(), String> {
    take_misspelt(members, rules, path, changes);
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
fn fitted(value: &Json, form: Form, path: &str, changes: &mut Changes) -> Result<Option<Json>, String> {
    let is = |fits: bool, what: &str| if fits { Ok(None) } else { Err(format!("`{path}` is not {what}")) };
    match form {
        Form::Text => is(value.as_str().starts_with('"'), "a text"),
        Form::Flag => is(matches!(value.as_str(), "true" | "false"), "true or false"),
        Form::Name => match value.as_str().starts_with('"') {
            true => is(is_name(value), "more than white space"),
            false => is(false, "a text"),
        },
        Form::Time => is(value.to_text().is_some_and(|text| is_time(&text)), "a time with its zone"),
        Form::Share => is(
            value.decode::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number)),
            "a number from 0 to 1",
        ),
        Form::Whole => whole(value).map_err(|()| format!("`{path}` is not a whole number")),
        Form::Object => is(value.is_object(), "an object"),
        Form::ObjectSchema => schema::object(value, path, changes),
        Form::OneOf(words) => {
            is(value.to_text().is_some_and(|text| words.contains(&text.as_str())), "one of the known words")
        }
        Form::Texts => is(value.decode::<Vec<String>>().is_ok(), "a list of texts"),
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

/// `None` for a whole number of 64 bits; one that is written as a fraction is written anew.
fn whole(value: &Json) -> Result<Option<Json>, ()> {
    /// From here on fractions are no longer exact.
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

/// A time of RFC 3339, as `2025-01-12T15:00:58Z`, with capital letters.
fn is_time(text: &str) -> bool {
    text.len() <= 35 && !text.contains(['t', 'z', ' ']) && OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

fn list(
    value: &Json,
    rules: &'static [Rule],
    path: &str,
    changes: &mut Changes,
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

#[cfg(test)]
mod tests;
