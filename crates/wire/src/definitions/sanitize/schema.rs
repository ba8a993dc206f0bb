//! Repairs the schemas of arguments and results so that every client accepts them.

use serde_json::Value;
use vmcp_json::{Json, Members};

use crate::definitions::sanitize::adjustments::Adjustments;

/// Repairs a schema of type `object`, which every client requires for arguments. Returns `None` when nothing
/// changes.
pub(super) fn fit_object_schema(
    value: &Json,
    path: &str,
    adjustments: &mut Adjustments,
) -> Result<Option<Json>, String> {
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
        members.insert("type", Json::string("object"));
        adjustments.push(format!("`{path}` got `type: object`"));
    }
    for name in ["properties", "required", "$defs", "$schema"] {
        if members.get(name).is_some_and(Json::is_null) {
            members.remove(name);
        }
    }
    for (name, is_fit) in [
        ("$defs", Json::is_object as fn(&Json) -> bool),
        ("$schema", |text: &Json| text.as_str().starts_with('"')),
    ] {
        if members.get(name).is_some_and(|value| !is_fit(value)) {
            members.remove(name);
            adjustments.push(format!("`{path}.{name}` is of another type; it is left out"));
        }
    }
    // Both have the same meaning, but `{}` made Java clients reject the whole list.
    if members.get("additionalProperties").is_some_and(|any| any.as_str() == "{}") {
        members.insert("additionalProperties", Json::boolean(true));
    }
    if let Some(properties) = members.get("properties").cloned() {
        match fit_properties(&properties, path, adjustments) {
            Some(None) => {}
            Some(Some(properties)) => members.insert("properties", properties),
            None => {
                members.remove("properties");
                adjustments.push(format!("`{path}.properties` is not an object; it is left out"));
            }
        }
    }
    if let Some(required) = members.get("required")
        && required.decode::<Vec<String>>().is_err()
    {
        let elements = required.elements().unwrap_or_default();
        let texts: Vec<Json> = elements.into_iter().filter(|one| one.as_str().starts_with('"')).collect();
        members.insert("required", Json::array(&texts));
        adjustments.push(format!("`{path}.required` is not a list of names; other elements are left out"));
    }
    Ok((members != before).then(|| members.to_json()))
}

/// Makes the schema of every property an object: `true` becomes `{}` and `false` becomes `{"not":{}}`, which
/// have the same meaning. Returns `Some(None)` when nothing changes, and `None` when `properties` is not an
/// object.
#[allow(
    clippy::option_option,
    reason = "no properties, none that changed, and changed ones are three things"
)]
fn fit_properties(properties: &Json, path: &str, adjustments: &mut Adjustments) -> Option<Option<Json>> {
    let before = properties.members().ok()?;
    if before.iter().all(|(_, value)| value.is_object()) {
        return Some(None);
    }
    let after: Members = before
        .iter()
        .filter_map(|(name, value)| {
            let sanitized = match value.as_str() {
                "true" | "null" => Json::empty_object(),
                "false" => Json::parse(r#"{"not":{}}"#).ok()?,
                _ if value.is_object() => value.clone(),
                _ => {
                    adjustments.push(format!("`{path}.properties.{name}` is not a schema; it is left out"));
                    return None;
                }
            };
            Some((name.into_owned(), sanitized))
        })
        .collect();
    Some(Some(after.to_json()))
}
