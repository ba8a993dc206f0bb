//! Configurations of other programs: ToolHive's Kubernetes objects, and the JSON of desktop clients.

pub(crate) mod imported_config;
pub(crate) mod manifest;
pub(crate) mod mcp_json;
