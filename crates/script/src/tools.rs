//! The tools that the scripts of one caller may call.

use std::sync::OnceLock;

use ahash::AHashMap;
use serde_json::Value;
use vmcp_domain::{EXECUTE_TOOL_SCRIPT, Tool, ToolList};

use crate::policy::ScriptPolicy;
use crate::signature::{Documentation, signature};

/// Tools by their names.
pub(crate) struct ScriptTools {
    tools: Vec<Tool>,
    by_name: AHashMap<String, usize>,
    names: Vec<String>,
    declarations: OnceLock<Declarations>,
}

/// The declarations of all tools in TypeScript.
pub(crate) struct Declarations {
    /// With the descriptions of the tools.
    pub(crate) documented: String,
    /// Without them.
    pub(crate) plain: String,
}

impl ScriptTools {
    /// The tools of a list that scripts may call. A script cannot start another one.
    pub(crate) fn of(list: &ToolList, policy: &ScriptPolicy) -> Self {
        let usable = |tool: &&Tool| tool.name.as_str() != EXECUTE_TOOL_SCRIPT && policy.allows(tool);
        let tools: Vec<Tool> = list.iter().filter(usable).cloned().collect();
        let names: Vec<String> = tools.iter().map(|tool| tool.name.as_str().to_owned()).collect();
        let by_name = names.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect();
        Self { tools, by_name, names, declarations: OnceLock::new() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tool> {
        self.by_name.get(name).and_then(|index| self.tools.get(*index))
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tool> + Clone {
        self.tools.iter()
    }

    /// The declarations, written when they are first asked for.
    pub(crate) fn declarations(&self) -> &Declarations {
        self.declarations.get_or_init(|| {
            let write = |documentation| {
                let mut text = "declare const tools: {\n".to_owned();
                for tool in &self.tools {
                    for line in signature_of(tool, documentation).lines() {
                        text.push_str("  ");
                        text.push_str(line);
                        text.push('\n');
                    }
                    // A signature ends without a separator.
                    text.insert(text.len() - 1, ';');
                }
                text.push_str("};");
                text
            };
            Declarations { documented: write(Documentation::Comments), plain: write(Documentation::Omitted) }
        })
    }
}

/// The signature of a tool in TypeScript.
pub(crate) fn signature_of(tool: &Tool, documentation: Documentation) -> String {
    let schema = |name: &str| tool.definition.get(name).and_then(|schema| schema.decode::<Value>().ok());
    let (input, output) = (schema("inputSchema"), schema("outputSchema"));
    signature(
        tool.name.as_str(),
        tool.description.as_deref(),
        (input.as_ref(), output.as_ref()),
        documentation,
    )
}
