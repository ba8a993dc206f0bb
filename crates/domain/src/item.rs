//! What the gateway offers: tools, resources, templates and prompts, each with the place it really lives.
//! Definitions are kept as the backend sent them; what the operator changed stands beside them.

use std::sync::Arc;

use crate::address::{ResourceUri, UriTemplate};
use crate::json::Members;
use crate::name::{BackendId, BackendPromptName, BackendToolName, PromptName, ToolName};

/// Where something advertised really lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutingTarget<N> {
    /// The backend that offers it.
    pub backend: BackendId,
    /// Its name there.
    pub name: N,
}

impl<N> RoutingTarget<N> {
    /// The place of what the gateway makes up itself: no backend, whose name is empty.
    #[must_use]
    pub fn for_virtual(name: N) -> Self {
        Self { backend: BackendId::from(""), name }
    }

    /// True for what the gateway makes up itself.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.backend.as_str().is_empty()
    }
}

/// A tool's own claims about its behaviour (`annotations`). Untrusted: they may only tighten a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolHints {
    /// A title for people.
    pub title: Option<String>,
    /// The tool changes nothing.
    pub read_only: Option<bool>,
    /// The tool may destroy something.
    pub destructive: Option<bool>,
    /// Calling twice is the same as calling once.
    pub idempotent: Option<bool>,
    /// The tool reaches beyond its own server.
    pub open_world: Option<bool>,
}

/// Annotations an operator sets in place of the tool's own; those left out stay.
pub type HintOverride = ToolHints;

/// What an operator changed about a tool, besides its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolOverride {
    /// A description in place of the tool's own.
    pub description: Option<String>,
    /// Annotations in place of the tool's own.
    pub annotations: Option<HintOverride>,
}

/// A tool as clients see it.
#[derive(Clone, Debug)]
pub struct Tool {
    /// The advertised name.
    pub name: ToolName,
    /// Where it really lives.
    pub target: RoutingTarget<BackendToolName>,
    /// The description in force, the operator's if there is one.
    pub description: Option<String>,
    /// The annotations in force.
    pub hints: ToolHints,
    /// The definition as the backend sent it, its own name included.
    pub definition: Arc<Members>,
    /// What of the definition is to be replaced, besides the name.
    pub overrides: ToolOverride,
}

/// A resource as clients see it.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its address.
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
    /// Where it really lives.
    pub target: RoutingTarget<BackendPromptName>,
    /// The definition as the backend sent it, its own name included.
    pub definition: Arc<Members>,
}

/// Tools in the order clients see them. Shared and immutable, so a list may be told from another by its address.
pub type ToolList = Vec<Tool>;
/// Resources in the order clients see them.
pub type ResourceList = Vec<Resource>;
/// Resource templates in the order clients see them.
pub type TemplateList = Vec<ResourceTemplate>;
/// Prompts in the order clients see them.
pub type PromptList = Vec<Prompt>;
