//! What templates read of a tool's result.

use std::sync::Arc;

use vmcp_domain::Reply;
use vmcp_json::Json;
use vmcp_template::Value;

/// The parts of a result.
pub(crate) struct StepResult {
    /// The structured content, or the content if there is none.
    pub(crate) output: Value,
    /// The content by kind: `text`, `text_1`, `image_0`, `resource`.
    pub(crate) content: Value,
    /// The size of the result in bytes.
    pub(crate) bytes: usize,
}

/// Reads a result.
pub(crate) fn read(reply: &Reply) -> StepResult {
    let blocks = reply.members.get("content").and_then(|json| json.elements().ok()).unwrap_or_default();
    let content = content(&blocks);
    let structured = reply.members.get("structuredContent").filter(|json| json.is_object());
    let bytes = blocks.iter().map(|block| block.as_str().len()).sum::<usize>()
        + structured.map_or(0, |json| json.as_str().len());
    let output = structured.map_or_else(|| content.clone(), |json| Value::deferred(json.clone()));
    StepResult { output, content, bytes }
}

/// The first text of a result.
pub(crate) fn first_text(reply: &Reply) -> Option<String> {
    let blocks = reply.members.get("content")?.elements().ok()?;
    blocks.iter().find_map(|block| text_of(block, "text"))
}

fn text_of(block: &Json, name: &str) -> Option<String> {
    block.members().ok()?.get(name)?.decode_string()
}

/// The content by kind. The first of a kind has its plain name, except for images.
fn content(blocks: &[Json]) -> Value {
    let (mut texts, mut images, mut resources) = (0, 0, 0);
    let named = blocks.iter().filter_map(|block| {
        let (name, value) = match text_of(block, "type")?.as_str() {
            "text" => (numbered("text", &mut texts), text_of(block, "text")?),
            "image" => {
                images += 1;
                (format!("image_{}", images - 1), text_of(block, "data")?)
            }
            "resource" => {
                let resource = block.members().ok()?.get("resource")?.clone();
                let value = text_of(&resource, "text").or_else(|| text_of(&resource, "blob"))?;
                (numbered("resource", &mut resources), value)
            }
            _ => return None,
        };
        Some((Arc::<str>::from(name), Value::string(value)))
    });
    Value::object(named.collect::<Vec<_>>())
}

/// `text`, `text_1`, `text_2`.
fn numbered(name: &str, count: &mut usize) -> String {
    *count += 1;
    if *count == 1 { name.to_owned() } else { format!("{name}_{}", *count - 1) }
}
