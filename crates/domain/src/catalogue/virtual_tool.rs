//! The names of the two tools that the optimizer lists instead of all others. Layers that record or limit calls
//! distinguish them from the tools of backends.

/// The name of the virtual tool that searches.
pub const FIND_TOOL: &str = "find_tool";
/// The name of the virtual tool that calls.
pub const CALL_TOOL: &str = "call_tool";

/// The names of both virtual tools.
pub const VIRTUAL_NAMES: [&str; 2] = [FIND_TOOL, CALL_TOOL];
