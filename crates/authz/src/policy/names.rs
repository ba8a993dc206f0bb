//! The vocabulary of policies: entity types, actions and attribute names. They are ToolHive's, so that its
//! policies have the same meaning here.

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use vmcp_domain::{Prompt, PromptName, Tool, ToolHints, ToolName};
use vmcp_json::Json;

pub(crate) const CLIENT_TYPE: &str = "Client";
pub(crate) const ACTION_TYPE: &str = "Action";
pub(crate) const SERVER_TYPE: &str = "MCP";
/// The type of groups and roles when the operator configures none.
pub(crate) const DEFAULT_GROUP_TYPE: &str = "THVGroup";
/// The subject of callers without an identity.
pub(crate) const ANONYMOUS: &str = "anonymous";
/// Further claims of callers without an identity, in addition to the subject.
pub(crate) const ANONYMOUS_CLAIMS: [(&str, &str); 4] = [
    ("iss", "toolhive-local"),
    ("aud", "toolhive"),
    ("email", "anonymous@localhost"),
    ("name", "Anonymous User"),
];
/// Claims that hold groups when the operator configures none, or when the configured claim is no list.
pub(crate) const GROUP_CLAIMS: [&str; 3] = ["groups", "roles", "cognito:groups"];
/// Maximum nesting of lists and objects in a claim or an argument. Policies do not see deeper values.
pub(crate) const CLAIM_DEPTH_MAX: usize = 10;

pub(crate) const CLAIM_PREFIX: &str = "claim_";
pub(crate) const ARGUMENT_PREFIX: &str = "arg_";
pub(crate) const PRESENT_SUFFIX: &str = "_present";
pub(crate) const HINT_ATTRIBUTES: [&str; 4] =
    ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];
/// Attributes of every item, in addition to its hints and arguments.
pub(crate) const ITEM_ATTRIBUTES: [&str; 4] = ["name", "operation", "feature", "uri"];

/// The values of [`HINT_ATTRIBUTES`], in the same order.
pub(crate) fn hint_values(hints: &ToolHints) -> [Option<bool>; 4] {
    [hints.read_only, hints.destructive, hints.idempotent, hints.open_world]
}

/// The actions of policies. Lists have no action of their own: a list contains what may be called, got or
/// read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    CallTool,
    GetPrompt,
    ReadResource,
}

impl Action {
    pub(crate) const ALL: [Self; 3] = [Self::CallTool, Self::GetPrompt, Self::ReadResource];

    /// The element that belongs to the action, in the order of [`Action::ALL`].
    pub(crate) fn select<T>(self, all: &[T; 3]) -> &T {
        let [tool, prompt, resource] = all;
        match self {
            Self::CallTool => tool,
            Self::GetPrompt => prompt,
            Self::ReadResource => resource,
        }
    }

    /// The id of the action's entity.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CallTool => "call_tool",
            Self::GetPrompt => "get_prompt",
            Self::ReadResource => "read_resource",
        }
    }

    /// The entity type of the item that the action applies to.
    pub(crate) fn item_type(self) -> &'static str {
        match self {
            Self::CallTool => "Tool",
            Self::GetPrompt => "Prompt",
            Self::ReadResource => "Resource",
        }
    }

    /// The values of the item's attributes `operation` and `feature`.
    pub(crate) fn operation_and_feature(self) -> (&'static str, &'static str) {
        match self {
            Self::CallTool => ("call", "tool"),
            Self::GetPrompt => ("get", "prompt"),
            Self::ReadResource => ("read", "resource"),
        }
    }
}

/// The request that a decision is about.
#[derive(Clone, Copy, Debug)]
pub enum AccessRequest<'a> {
    /// Call a tool, or list it (then without arguments).
    CallTool {
        /// The advertised name.
        name: &'a str,
        /// See [`Tool::contested_name`]; `None` also when the tool is not looked up.
        contested_name: Option<&'a str>,
        /// The backend that offers the tool; `None` when the tool is not looked up.
        backend: Option<&'a str>,
        /// The effective annotations of the tool; `None` when the tool is not looked up.
        hints: Option<&'a ToolHints>,
        /// The arguments object, if the client sent one.
        arguments: Option<&'a Json>,
    },
    /// Get a prompt, list it, or complete one of its arguments.
    GetPrompt {
        /// The advertised name.
        name: &'a str,
        /// See [`Prompt::contested_name`]; `None` also when the prompt is not looked up.
        contested_name: Option<&'a str>,
    },
    /// Read a resource or list it; list a template or complete it. For a template, the URI template is used
    /// as the URI.
    ReadResource {
        /// The URI, or the URI template.
        uri: &'a str,
    },
}

impl<'a> AccessRequest<'a> {
    /// The request to list `tool`.
    #[must_use]
    pub fn list_tool(tool: &'a Tool) -> Self {
        Self::CallTool {
            name: tool.name.as_str(),
            contested_name: tool.contested_name.as_ref().map(ToolName::as_str),
            backend: Some(tool.target.backend.as_str()),
            hints: Some(&tool.hints),
            arguments: None,
        }
    }

    /// The same request with the arguments of a call; other requests have none.
    #[must_use]
    pub fn with_arguments(self, arguments: Option<&'a Json>) -> Self {
        match self {
            Self::CallTool { name, contested_name, backend, hints, .. } => {
                Self::CallTool { name, contested_name, backend, hints, arguments }
            }
            Self::GetPrompt { .. } | Self::ReadResource { .. } => self,
        }
    }

    /// The request to get or list `prompt`.
    #[must_use]
    pub fn get_prompt(prompt: &'a Prompt) -> Self {
        Self::GetPrompt {
            name: prompt.name.as_str(),
            contested_name: prompt.contested_name.as_ref().map(PromptName::as_str),
        }
    }

    /// The same request for the item's contested name; `None` if it has none.
    pub(crate) fn under_contested_name(self) -> Option<Self> {
        match self {
            Self::CallTool { contested_name, backend, hints, arguments, .. } => contested_name
                .map(|name| Self::CallTool { name, contested_name: None, backend, hints, arguments }),
            Self::GetPrompt { contested_name, .. } => {
                contested_name.map(|name| Self::GetPrompt { name, contested_name: None })
            }
            Self::ReadResource { .. } => None,
        }
    }

    pub(crate) fn action(&self) -> Action {
        match self {
            Self::CallTool { .. } => Action::CallTool,
            Self::GetPrompt { .. } => Action::GetPrompt,
            Self::ReadResource { .. } => Action::ReadResource,
        }
    }

    pub(crate) fn backend(&self) -> Option<&str> {
        match self {
            Self::CallTool { backend, .. } => *backend,
            Self::GetPrompt { .. } | Self::ReadResource { .. } => None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::CallTool { name, .. } | Self::GetPrompt { name, .. } => name,
            Self::ReadResource { uri } => uri,
        }
    }
}

/// Builds entity ids of the fixed types, which are parsed once.
#[derive(Clone, Debug)]
pub(crate) struct EntityTypes {
    client: EntityTypeName,
    server: EntityTypeName,
    group: EntityTypeName,
    items: [EntityTypeName; 3],
    actions: [EntityUid; 3],
}

impl EntityTypes {
    /// `None` when `group` is no plain identifier.
    pub(crate) fn new(group: &str) -> Option<Self> {
        let named = |name: &str| name.parse::<EntityTypeName>().ok();
        let group = named(group).filter(|name| name.namespace_components().next().is_none())?;
        let action = named(ACTION_TYPE)?;
        let of = |verb: Action| EntityUid::from_type_name_and_id(action.clone(), EntityId::new(verb.name()));
        let item = |verb: Action| named(verb.item_type());
        let [first, second, third] = Action::ALL;
        Some(Self {
            client: named(CLIENT_TYPE)?,
            server: named(SERVER_TYPE)?,
            group,
            items: [item(first)?, item(second)?, item(third)?],
            actions: Action::ALL.map(of),
        })
    }

    pub(crate) fn client(&self, subject: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.client.clone(), EntityId::new(subject))
    }

    pub(crate) fn is_server(&self, uid: &EntityUid) -> bool {
        *uid.type_name() == self.server
    }

    /// The entity of a server by its name: this gateway or a backend.
    pub(crate) fn server(&self, name: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.server.clone(), EntityId::new(name))
    }

    pub(crate) fn group(&self, name: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.group.clone(), EntityId::new(name))
    }

    pub(crate) fn group_type(&self) -> &EntityTypeName {
        &self.group
    }

    pub(crate) fn client_type(&self) -> &EntityTypeName {
        &self.client
    }

    pub(crate) fn item(&self, verb: Action, name: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.item_type(verb).clone(), EntityId::new(name))
    }

    pub(crate) fn item_type(&self, verb: Action) -> &EntityTypeName {
        verb.select(&self.items)
    }

    pub(crate) fn action(&self, verb: Action) -> &EntityUid {
        verb.select(&self.actions)
    }

    /// True for the entities that are created for each request.
    pub(crate) fn is_request_entity(&self, uid: &EntityUid) -> bool {
        uid.type_name() == &self.client || self.items.contains(uid.type_name()) || self.actions.contains(uid)
    }
}
