//! The file of saved lists: one JSON object with the items as the backend defined them.

use vmcp_domain::{Inventory, OfferedTool, ProtocolVersion};
use vmcp_json::{Json, Members};
use vmcp_wire::client::read_mirrored_arguments;
use vmcp_wire::definitions::{self, ReadItem};

/// The version of the format. A file of another version is ignored.
const FORMAT: i64 = 1;

pub(super) fn encode(inventory: &Inventory, version: ProtocolVersion) -> Vec<u8> {
    // What was malformed is not saved: the backend is read again soon. A list that failed is not saved at all.
    let Inventory {
        tools,
        resources,
        templates,
        prompts,
        instructions,
        capabilities,
        malformed_items: _,
        list_failures: _,
    } = inventory;
    let array = |items: Vec<Json>| Json::array(&items);
    let mut file = Members::new();
    file.insert("format", Json::integer(FORMAT));
    file.insert("protocolVersion", Json::string(version.as_str()));
    file.insert("capabilities", capabilities.to_json());
    if let Some(instructions) = instructions {
        file.insert("instructions", Json::string(instructions));
    }
    file.insert("tools", array(tools.iter().map(|one| one.definition.to_json()).collect()));
    file.insert("resources", array(resources.iter().map(|one| one.definition.to_json()).collect()));
    file.insert("resourceTemplates", array(templates.iter().map(|one| one.definition.to_json()).collect()));
    file.insert("prompts", array(prompts.iter().map(|one| one.definition.to_json()).collect()));
    file.to_json().as_str().as_bytes().to_vec()
}

/// Decodes a file. Its items are checked like those of a backend, so a changed file causes no more than a backend
/// could.
///
/// # Errors
/// If the file is of another format.
pub(super) fn decode(bytes: Vec<u8>) -> Result<Inventory, String> {
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    let file = Json::parse(text).and_then(|json| json.members()).map_err(|error| error.to_string())?;
    if file.get("format").map(Json::as_str) != Some(Json::integer(FORMAT).as_str()) {
        return Err("it has another format".to_owned());
    }
    let version = file.get("protocolVersion").and_then(Json::decode_string);
    let version =
        version.and_then(|date| ProtocolVersion::parse(&date)).ok_or("its protocol version is not known")?;
    let read_tool = |json: &Json| {
        let read = definitions::read_tool(json, version)?;
        check_mirrored_arguments(&read.item)?;
        Ok(read)
    };
    Ok(Inventory {
        tools: items(&file, "tools", read_tool)?,
        resources: items(&file, "resources", definitions::read_resource)?,
        templates: items(&file, "resourceTemplates", definitions::read_template)?,
        prompts: items(&file, "prompts", definitions::read_prompt)?,
        instructions: file.get("instructions").and_then(Json::decode_string),
        capabilities: file.get("capabilities").and_then(|json| json.members().ok()).unwrap_or_default(),
        ..Inventory::default()
    })
}

fn check_mirrored_arguments(tool: &OfferedTool) -> Result<(), String> {
    read_mirrored_arguments(&tool.definition).map(drop).map_err(|fault| fault.to_string())
}

fn items<T>(
    file: &Members,
    list: &str,
    read: impl Fn(&Json) -> Result<ReadItem<T>, String>,
) -> Result<Vec<T>, String> {
    let elements = file.get(list).ok_or_else(|| format!("it has no `{list}`"))?;
    let elements = elements.elements().map_err(|error| format!("`{list}`: {error}"))?;
    elements.iter().map(|json| read(json).map(|read| read.item)).collect()
}
