//! The names of the tools that the gateway itself offers, apart from workflows. Layers that record or limit calls
//! distinguish them from the tools of backends.

use std::borrow::Cow;

/// The usual name of the virtual tool that searches.
pub const FIND_TOOL: &str = "find_tool";
/// The usual name of the virtual tool that calls. Records name this path to a tool by it, whatever clients see.
pub const CALL_TOOL: &str = "call_tool";

/// The name of the virtual tool that runs a script. It is ToolHive's, and clients' prompts name it.
pub const EXECUTE_TOOL_SCRIPT: &str = "execute_tool_script";

/// The names that clients see of the two virtual tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualNames {
    /// The name of the tool that searches.
    pub find: String,
    /// The name of the tool that calls.
    pub call: String,
}

impl VirtualNames {
    /// Whether `name` is one of the two.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.find == name || self.call == name
    }

    /// Replaces the usual names in a text of the gateway by these.
    #[must_use]
    pub fn in_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if *self == Self::default() {
            return Cow::Borrowed(text);
        }
        // Splitting first keeps a name that contains the other usual name from being replaced twice.
        let pieces: Vec<String> =
            text.split(FIND_TOOL).map(|piece| piece.replace(CALL_TOOL, &self.call)).collect();
        Cow::Owned(pieces.join(&self.find))
    }
}

impl Default for VirtualNames {
    fn default() -> Self {
        Self { find: FIND_TOOL.to_owned(), call: CALL_TOOL.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::VirtualNames;

    #[test]
    fn texts_name_the_tools_as_clients_see_them() {
        let usual = VirtualNames::default();
        assert_eq!(usual.in_text("find_tool, call_tool"), "find_tool, call_tool");
        let names = VirtualNames { find: "call_tool".into(), call: "run".into() };
        assert_eq!(names.in_text("find_tool, then call_tool"), "call_tool, then run");
        assert!(names.contains("call_tool") && names.contains("run") && !names.contains("find_tool"));
    }
}
