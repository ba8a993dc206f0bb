//! What templates read of a tool's result.

use std::sync::Arc;

use vmcp_domain::Reply;
use vmcp_json::Json;
use vmcp_template::Value;

use crate::policy::{RESULT_PARTS_MAX, RESULTS_BYTES_MAX};

/// The parts of a result.
pub(crate) struct StepResult {
    /// The structured content, or the content if there is none.
    pub(crate) output: Value,
    /// The content by kind: `text`, `text_1`, `image_0`, `resource`.
    pub(crate) content: Value,
    /// What it takes to keep the result.
    pub(crate) size: ResultSize,
}

/// What it takes to keep results.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResultSize {
    /// The length of the JSON text.
    bytes: usize,
    /// The number of members and items, at most.
    parts: usize,
}

impl ResultSize {
    fn of(json: &Json) -> Self {
        let text = json.as_str().as_bytes();
        // A comma inside a string is counted too.
        Self { bytes: text.len(), parts: text.iter().filter(|byte| **byte == b',').count() }
    }

    /// Both results together.
    pub(crate) fn plus(self, other: Self) -> Self {
        let Self { bytes, parts } = other;
        Self { bytes: self.bytes.saturating_add(bytes), parts: self.parts.saturating_add(parts) }
    }

    /// The bound that is exceeded.
    pub(crate) fn exceeded(self) -> Option<String> {
        if self.bytes > RESULTS_BYTES_MAX {
            return Some(format!("the results of this run are larger than {} MiB", RESULTS_BYTES_MAX >> 20));
        }
        (self.parts > RESULT_PARTS_MAX)
            .then(|| format!("the results of this run have more than {RESULT_PARTS_MAX} members and items"))
    }
}

/// Reads a result.
pub(crate) fn read(reply: &Reply) -> StepResult {
    let blocks = reply.members.get("content").and_then(|json| json.elements().ok()).unwrap_or_default();
    let content = content(&blocks);
    let structured = reply.members.get("structuredContent").filter(|json| json.is_object());
    let size = blocks.iter().map(|block| block.as_str().len()).sum();
    let size = ResultSize { bytes: size, parts: blocks.len() };
    let size = structured.map_or(size, |json| size.plus(ResultSize::of(json)));
    let output = structured.map_or_else(|| content.clone(), |json| Value::deferred(json.clone()));
    StepResult { output, content, size }
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
