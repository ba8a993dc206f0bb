//! The items of lists (tools, resources, templates and prompts): parsed from backends and written for
//! clients. Only the name and the operator's overrides are replaced. What strict clients would reject is
//! repaired.

mod compact;
pub(crate) mod sanitize;

use std::sync::Arc;

use vmcp_domain::{
    OfferedPrompt, OfferedResource, OfferedTemplate, OfferedTool, Prompt, ProtocolVersion, Resource,
    ResourceTemplate, Tool, ToolHints,
};
use vmcp_json::{Json, Members};

pub use crate::definitions::sanitize::Adjustments;
use crate::definitions::sanitize::Sanitized;
pub use compact::compact_tool;

/// A parsed and repaired list item of a backend.
#[derive(Debug)]
pub struct ReadItem<T> {
    /// The item.
    pub item: T,
    /// What was repaired, for the operator.
    pub adjustments: Adjustments,
}

/// Parses the tool definition of a server that speaks `version`.
///
/// # Errors
/// The reason why the tool cannot be listed. Clients validate whole lists, so one invalid tool would make a
/// client reject the tools of every other backend.
pub fn read_tool(json: &Json, version: ProtocolVersion) -> Result<ReadItem<OfferedTool>, String> {
    let Sanitized { members: definition, adjustments } = sanitize::tool(json, version)?;
    let item = OfferedTool {
        name: required_text(&definition, "name")?.into(),
        description: definition.get("description").and_then(Json::decode_string),
        hints: definition.get("annotations").map_or_else(ToolHints::default, read_hints),
        definition: Arc::new(definition),
    };
    Ok(ReadItem { item, adjustments })
}

/// Parses a resource definition.
///
/// # Errors
/// The reason why the resource cannot be listed.
pub fn read_resource(json: &Json) -> Result<ReadItem<OfferedResource>, String> {
    let Sanitized { members: definition, adjustments } = sanitize::resource(json)?;
    let uri = required_text(&definition, "uri")?.into();
    Ok(ReadItem { item: OfferedResource { uri, definition: Arc::new(definition) }, adjustments })
}

/// Parses a resource template definition.
///
/// # Errors
/// The reason why the template cannot be listed.
pub fn read_template(json: &Json) -> Result<ReadItem<OfferedTemplate>, String> {
    let Sanitized { members: definition, adjustments } = sanitize::template(json)?;
    let template = required_text(&definition, "uriTemplate")?.into();
    Ok(ReadItem { item: OfferedTemplate { template, definition: Arc::new(definition) }, adjustments })
}

/// Parses a prompt definition.
///
/// # Errors
/// The reason why the prompt cannot be listed.
pub fn read_prompt(json: &Json) -> Result<ReadItem<OfferedPrompt>, String> {
    let Sanitized { members: definition, adjustments } = sanitize::prompt(json)?;
    let name = required_text(&definition, "name")?.into();
    Ok(ReadItem { item: OfferedPrompt { name, definition: Arc::new(definition) }, adjustments })
}

fn required_text(definition: &Members, name: &str) -> Result<String, String> {
    let text = definition.get(name).and_then(Json::decode_string).filter(|text| !text.is_empty());
    text.ok_or_else(|| format!("`{name}` is empty"))
}

/// The name, URI or template that an item states, for messages about an item that cannot be parsed.
#[must_use]
pub fn item_name(json: &Json) -> Option<String> {
    let members = json.members().ok()?;
    ["name", "uri", "uriTemplate"].iter().find_map(|name| members.get(name)?.decode_string())
}

/// Parses hints one by one, so that one malformed hint does not affect the others.
fn read_hints(annotations: &Json) -> ToolHints {
    let members = annotations.members().unwrap_or_default();
    let flag = |name: &str| match members.get(name).map(Json::as_str) {
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) | None => None,
    };
    ToolHints {
        title: members.get("title").and_then(Json::decode_string),
        read_only: flag("readOnlyHint"),
        destructive: flag("destructiveHint"),
        idempotent: flag("idempotentHint"),
        open_world: flag("openWorldHint"),
    }
}

/// Writes a tool for clients of one version. With sessions, structured results must be objects, and strict
/// clients reject the whole list because of an output schema of another type. Such a schema is left out.
#[must_use]
pub fn write_tool_for_version(advertised: &Tool, version: ProtocolVersion) -> Json {
    let is_object = |schema: &Json| {
        schema
            .members()
            .is_ok_and(|schema| schema.get("type").is_some_and(|kind| kind.as_str() == "\"object\""))
    };
    let schema = advertised.definition.get("outputSchema");
    if !version.has_sessions() || schema.is_none_or(is_object) {
        return write_tool(advertised);
    }
    let mut definition = (*advertised.definition).clone();
    definition.remove("outputSchema");
    write_tool(&Tool { definition: Arc::new(definition), ..advertised.clone() })
}

/// Writes a tool as clients see it: with its advertised name and the operator's overrides.
#[must_use]
pub fn write_tool(tool: &Tool) -> Json {
    let mut definition = (*tool.definition).clone();
    if tool.name.as_str() != tool.target.name.as_str() {
        definition.insert("name", Json::string(tool.name.as_str()));
    }
    if let Some(description) = &tool.overrides.description {
        definition.insert("description", Json::string(description));
    }
    if let Some(hints) = &tool.overrides.annotations {
        let mut annotations =
            definition.get("annotations").and_then(|json| json.members().ok()).unwrap_or_default();
        apply_hints(&mut annotations, hints);
        definition.insert("annotations", annotations.to_json());
    }
    definition.to_json()
}

fn apply_hints(annotations: &mut Members, hints: &ToolHints) {
    if let Some(title) = &hints.title {
        annotations.insert("title", Json::string(title));
    }
    let flags = [
        ("readOnlyHint", hints.read_only),
        ("destructiveHint", hints.destructive),
        ("idempotentHint", hints.idempotent),
        ("openWorldHint", hints.open_world),
    ];
    for (name, flag) in flags {
        if let Some(flag) = flag {
            annotations.insert(name, Json::boolean(flag));
        }
    }
}

/// Writes a prompt as clients see it.
#[must_use]
pub fn write_prompt(prompt: &Prompt) -> Json {
    let mut definition = (*prompt.definition).clone();
    if prompt.name.as_str() != prompt.target.name.as_str() {
        definition.insert("name", Json::string(prompt.name.as_str()));
    }
    definition.to_json()
}

/// Writes a resource as clients see it.
#[must_use]
pub fn write_resource(resource: &Resource) -> Json {
    resource.definition.to_json()
}

/// Writes a resource template as clients see it.
#[must_use]
pub fn write_template(template: &ResourceTemplate) -> Json {
    template.definition.to_json()
}

#[cfg(test)]
mod tests {
    use vmcp_domain::{RoutingTarget, ToolOverride};

    use super::*;

    #[test]
    fn a_compact_tool_keeps_what_a_call_needs() {
        let json = r#"{"name":"t","title":"T","description":"Does it.","inputSchema":{"type":"object","$schema":"x","properties":{
            "description":{"type":"string","description":"gone","default":"gone","enum":["a","b"]},
            "list":{"type":"array","items":{"type":"object","title":"gone","properties":{"x":{"type":"number","examples":[1]}}}}},
            "required":["list"],"additionalProperties":false},"outputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}"#;
        let offered = read_tool(&Json::parse(json).unwrap(), ProtocolVersion::V2026_07_28).unwrap().item;
        let tool = Tool {
            contested_name: None,
            name: "own_t".into(),
            target: RoutingTarget { backend: "b".into(), name: offered.name },
            description: offered.description,
            hints: offered.hints,
            definition: offered.definition,
            overrides: ToolOverride::default(),
        };
        assert_eq!(
            compact_tool(&tool).as_str(),
            concat!(
                r#"{"name":"own_t","description":"Does it.","inputSchema":{"type":"object","properties":{"#,
                r#""description":{"type":"string","enum":["a","b"]},"#,
                r#""list":{"type":"array","items":{"type":"object","properties":{"x":{"type":"number"}}}}},"required":["list"]}}"#
            )
        );
    }

    #[test]
    fn only_what_is_overridden_changes() {
        let text = r#"{"icons":[{"src":"x"}],"name":"a","inputSchema":{"type":"object","z":1.0,"a":[]},"annotations":{"x":1,"readOnlyHint":false},"_meta":{"k":1}}"#;
        let offered = read_tool(&Json::parse(text).unwrap(), ProtocolVersion::V2026_07_28).unwrap().item;
        assert_eq!(offered.hints.read_only, Some(false));
        let mut advertised = Tool {
            contested_name: None,
            name: "a".into(),
            target: RoutingTarget { backend: "b".into(), name: offered.name },
            description: None,
            hints: offered.hints,
            definition: offered.definition,
            overrides: ToolOverride::default(),
        };
        assert_eq!(write_tool(&advertised).as_str(), text);
        advertised.name = "b_a".into();
        advertised.overrides.annotations = Some(ToolHints { read_only: Some(true), ..ToolHints::default() });
        let expected = text
            .replace(r#""name":"a""#, r#""name":"b_a""#)
            .replace("\"readOnlyHint\":false", "\"readOnlyHint\":true");
        assert_eq!(write_tool(&advertised).as_str(), expected);
    }
}
