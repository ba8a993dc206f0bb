//! What the gateway offers: tools, resources, templates and prompts, each with its backend. Definitions are
//! kept as the backend sent them, and the operator's overrides are stored separately.

use std::sync::Arc;

use vmcp_json::Members;

use crate::catalogue::address::{ResourceUri, UriTemplate};
use crate::catalogue::name::{BackendId, BackendPromptName, BackendToolName, PromptName, ToolName};

/// The backend and the original name of an advertised item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutingTarget<N> {
    /// The backend that offers it.
    pub backend: BackendId,
    /// Its name at that backend.
    pub name: N,
}

impl<N> RoutingTarget<N> {
    /// The target of an item that the gateway itself provides: a backend with an empty name.
    #[must_use]
    pub fn for_virtual(name: N) -> Self {
        Self { backend: BackendId::from(""), name }
    }

    /// True for an item that the gateway itself provides.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.backend.as_str().is_empty()
    }
}

/// A tool's own statements about its behaviour (`annotations`). They are untrusted: a policy may use them
/// only to become stricter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolHints {
    /// A title for display.
    pub title: Option<String>,
    /// The tool does not modify anything.
    pub read_only: Option<bool>,
    /// The tool may destroy or overwrite something.
    pub destructive: Option<bool>,
    /// A second identical call has no further effect.
    pub idempotent: Option<bool>,
    /// The tool interacts with systems outside its own server.
    pub open_world: Option<bool>,
}

/// Annotations that an operator sets instead of the tool's own. Absent ones keep the tool's value.
pub type HintOverride = ToolHints;

/// An operator's changes to a tool, apart from its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolOverride {
    /// The description that replaces the tool's own.
    pub description: Option<String>,
    /// The annotations that replace the tool's own.
    pub annotations: Option<HintOverride>,
}

/// A tool as clients see it.
#[derive(Clone, Debug)]
pub struct Tool {
    /// The advertised name.
    pub name: ToolName,
    /// The name that it would have without other items, when it has a prefix or a hash only because of
    /// them. `None` if other items do not affect its name. A limit or a prohibition on this name holds for the
    /// item too.
    pub contested_name: Option<ToolName>,
    /// The backend that offers it, and its name there.
    pub target: RoutingTarget<BackendToolName>,
    /// The effective description: the operator's, else the tool's own.
    pub description: Option<String>,
    /// The effective annotations.
    pub hints: ToolHints,
    /// The definition as the backend sent it, with its original name.
    pub definition: Arc<Members>,
    /// What replaces parts of the definition, apart from the name.
    pub overrides: ToolOverride,
}

impl Tool {
    /// Whether `is_meant` is true for the advertised name or for the contested name.
    pub fn has_name(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        is_meant(self.name.as_str())
            || self.contested_name.as_ref().is_some_and(|name| is_meant(name.as_str()))
    }
}

/// A resource as clients see it.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The resource's URI.
    pub uri: ResourceUri,
    /// The backend that offers it.
    pub backend: BackendId,
    /// The definition as the backend sent it.
    pub definition: Arc<Members>,
}

/// A resource template as clients see it.
#[derive(Clone, Debug)]
pub struct ResourceTemplate {
    /// Its URI template (RFC 6570).
    pub template: UriTemplate,
    /// The backend that offers it.
    pub backend: BackendId,
    /// The definition as the backend sent it.
    pub definition: Arc<Members>,
}

/// A prompt as clients see it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The advertised name.
    pub name: PromptName,
    /// The name that it would have without other items, when it has a prefix or a hash only because of
    /// them. `None` if other items do not affect its name. A limit or a prohibition on this name holds for the
    /// item too.
    pub contested_name: Option<PromptName>,
    /// The backend that offers it, and its name there.
    pub target: RoutingTarget<BackendPromptName>,
    /// The definition as the backend sent it, with its original name.
    pub definition: Arc<Members>,
}

/// Tools in the order clients see them. A list is shared and immutable, so its address identifies it.
pub type ToolList = Vec<Tool>;
/// Resources in the order clients see them.
pub type ResourceList = Vec<Resource>;
/// Resource templates in the order clients see them.
pub type TemplateList = Vec<ResourceTemplate>;
/// Prompts in the order clients see them.
pub type PromptList = Vec<Prompt>;
