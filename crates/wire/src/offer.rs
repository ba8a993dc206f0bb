//! Tools, resources, templates and prompts as they stand in lists: read from backends, written for clients.
//! Nothing a backend wrote is lost; only the name and what the operator overrides are replaced.

mod compact;

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use vmcp_domain::{
    Json, Members, OfferedPrompt, OfferedResource, OfferedTemplate, OfferedTool, Prompt, Resource,
    ResourceTemplate, Tool, ToolHints,
};

pub use compact::compact_tool;

#[derive(Deserialize)]
struct Annotations<'a> {
    #[serde(borrow, default)]
    title: Option<Cow<'a, str>>,
    #[serde(rename = "readOnlyHint", default)]
    read_only: Option<bool>,
    #[serde(rename = "destructiveHint", default)]
    destructive: Option<bool>,
    #[serde(rename = "idempotentHint", default)]
    idempotent: Option<bool>,
    #[serde(rename = "openWorldHint", default)]
    open_world: Option<bool>,
}

/// Reads a tool definition. `None` when it has no name, or no object as its input schema: clients check what they
/// are sent, and one such tool would cost them the tools of every other backend.
#[must_use]
pub fn read_tool(json: &Json) -> Option<OfferedTool> {
    let definition = json.members().ok()?;
    let name = definition.get("name")?.to_text().filter(|name| !name.is_empty())?;
    definition.get("inputSchema").filter(|schema| schema.is_object())?;
    let hints = definition.get("annotations").and_then(|json| json.decode::<Annotations<'_>>().ok());
    Some(OfferedTool {
        name: name.into(),
        description: definition.get("description").and_then(Json::to_text),
        hints: hints.map_or_else(ToolHints::default, |hints| ToolHints {
            title: hints.title.map(Cow::into_owned),
            read_only: hints.read_only,
            destructive: hints.destructive,
            idempotent: hints.idempotent,
            open_world: hints.open_world,
        }),
        definition: Arc::new(definition),
    })
}

/// Reads a resource definition. `None` when it has no URI.
#[must_use]
pub fn read_resource(json: &Json) -> Option<OfferedResource> {
    let definition = json.members().ok()?;
    let uri = definition.get("uri")?.to_text()?.into();
    Some(OfferedResource { uri, definition: Arc::new(definition) })
}

/// Reads a resource template definition. `None` when it has no URI template.
#[must_use]
pub fn read_template(json: &Json) -> Option<OfferedTemplate> {
    let definition = json.members().ok()?;
    let template = definition.get("uriTemplate")?.to_text()?.into();
    Some(OfferedTemplate { template, definition: Arc::new(definition) })
}

/// Reads a prompt definition. `None` when it has no name.
#[must_use]
pub fn read_prompt(json: &Json) -> Option<OfferedPrompt> {
    let definition = json.members().ok()?;
    let name = definition.get("name")?.to_text()?.into();
    Some(OfferedPrompt { name, definition: Arc::new(definition) })
}

/// Writes a tool as clients see it.
#[must_use]
pub fn tool(tool: &Tool) -> Json {
    let mut definition = (*tool.definition).clone();
    if tool.name.as_str() != tool.target.name.as_str() {
        definition.set("name", Json::string(tool.name.as_str()));
    }
    if let Some(description) = &tool.overrides.description {
        definition.set("description", Json::string(description));
    }
    if let Some(hints) = &tool.overrides.annotations {
        let mut annotations =
            definition.get("annotations").and_then(|json| json.members().ok()).unwrap_or_default();
        overlay(&mut annotations, hints);
        definition.set("annotations", annotations.to_json());
    }
    definition.to_json()
}

fn overlay(annotations: &mut Members, hints: &ToolHints) {
    if let Some(title) = &hints.title {
        annotations.set("title", Json::string(title));
    }
    let flags = [
        ("readOnlyHint", hints.read_only),
        ("destructiveHint", hints.destructive),
        ("idempotentHint", hints.idempotent),
        ("openWorldHint", hints.open_world),
    ];
    for (name, flag) in flags {
        if let Some(flag) = flag {
            annotations.set(name, Json::boolean(flag));
        }
    }
}

/// Writes a prompt as clients see it.
#[must_use]
pub fn prompt(prompt: &Prompt) -> Json {
    let mut definition = (*prompt.definition).clone();
    if prompt.name.as_str() != prompt.target.name.as_str() {
        definition.set("name", Json::string(prompt.name.as_str()));
    }
    definition.to_json()
}

/// Writes a resource as clients see it.
#[must_use]
pub fn resource(resource: &Resource) -> Json {
    resource.definition.to_json()
}

/// Writes a resource template as clients see it.
#[must_use]
pub fn template(template: &ResourceTemplate) -> Json {
    template.definition.to_json()
}

#[cfg(test)]
mod tests {
    use vmcp_domain::{Target, ToolOverride};

    use super::*;

    #[test]
    fn a_compact_tool_keeps_what_a_call_needs() {
        let json = r#"{"name":"t","title":"T","description":"Does it.","inputSchema":{"type":"object","$schema":"x","properties":{
            "description":{"type":"string","description":"gone","default":"gone","enum":["a","b"]},
            "list":{"type":"array","items":{"type":"object","title":"gone","properties":{"x":{"type":"number","examples":[1]}}}}},
            "required":["list"],"additionalProperties":false},"outputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}"#;
        let offered = read_tool(&Json::parse(json).unwrap()).unwrap();
        let tool = Tool {
            name: "own_t".into(),
            target: Target { backend: "b".into(), name: offered.name },
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
        let text = r#"{"icons":[{"src":"x"}],"name":"a","inputSchema":{"z":1.0,"a":[]},"annotations":{"x":1,"readOnlyHint":false},"_meta":{"k":1}}"#;
        let offered = read_tool(&Json::parse(text).unwrap()).unwrap();
        assert_eq!(offered.hints.read_only, Some(false));
        let mut advertised = Tool {
            name: "a".into(),
            target: Target { backend: "b".into(), name: offered.name },
            description: None,
            hints: offered.hints,
            definition: offered.definition,
            overrides: ToolOverride::default(),
        };
        assert_eq!(tool(&advertised).as_str(), text);
        advertised.name = "b_a".into();
        advertised.overrides.annotations = Some(ToolHints { read_only: Some(true), ..ToolHints::default() });
        let expected = text
            .replace(r#""name":"a""#, r#""name":"b_a""#)
            .replace("\"readOnlyHint\":false", "\"readOnlyHint\":true");
        assert_eq!(tool(&advertised).as_str(), expected);
    }
}
