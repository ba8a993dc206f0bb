//! The words that policies are written in: entity types, actions and attribute names, each said once. They are
//! ToolHive's, so that its policies mean the same here.

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use vmcp_domain::{Json, ToolHints};

pub(crate) const CLIENT_TYPE: &str = "Client";
pub(crate) const ACTION_TYPE: &str = "Action";
pub(crate) const SERVER_TYPE: &str = "MCP";
/// The type of groups and roles where the operator names none.
pub(crate) const DEFAULT_GROUP_TYPE: &str = "THVGroup";
/// The subject of callers without an identity.
pub(crate) const ANONYMOUS: &str = "anonymous";
/// Claims of callers without an identity, besides the subject.
pub(crate) const ANONYMOUS_CLAIMS: [(&str, &str); 4] = [
    ("iss", "toolhive-local"),
    ("aud", "toolhive"),
    ("email", "anonymous@localhost"),
    ("name", "Anonymous User"),
];
/// Claims that hold groups where the operator names none, or the one he names is absent.
pub(crate) const GROUP_CLAIMS: [&str; 3] = ["groups", "roles", "cognito:groups"];
/// How deep lists and objects in a claim may nest; what lies deeper does not exist for policies.
pub(crate) const CLAIM_DEPTH_MAX: usize = 10;

pub(crate) const CLAIM_PREFIX: &str = "claim_";
pub(crate) const ARGUMENT_PREFIX: &str = "arg_";
pub(crate) const PRESENT_SUFFIX: &str = "_present";
pub(crate) const HINT_ATTRIBUTES: [&str; 4] =
    ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];
/// Attributes of every item besides its hints and arguments.
pub(crate) const ITEM_ATTRIBUTES: [&str; 4] = ["name", "operation", "feature", "uri"];

/// The values of [`HINT_ATTRIBUTES`], in their order.
pub(crate) fn hint_values(hints: &ToolHints) -> [Option<bool>; 4] {
    [hints.read_only, hints.destructive, hints.idempotent, hints.open_world]
}

/// What policies are asked about. Lists have no action of their own: a list shows what may be called, got or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    CallTool,
    GetPrompt,
    ReadResource,
}

impl Action {
    pub(crate) const ALL: [Self; 3] = [Self::CallTool, Self::GetPrompt, Self::ReadResource];

    /// The one of three that belongs to the action, in the order of [`Action::ALL`].
    pub(crate) fn select<T>(self, all: &[T; 3]) -> &T {
        let [tool, prompt, resource] = all;
        match self {
            Self::CallTool => tool,
            Self::GetPrompt => prompt,
            Self::ReadResource => resource,
        }
    }

    /// The action's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CallTool => "call_tool",
            Self::GetPrompt => "get_prompt",
            Self::ReadResource => "read_resource",
        }
    }

    /// The entity type of what it is done to.
    pub(crate) fn item_type(self) -> &'static str {
        match self {
            Self::CallTool => "Tool",
            Self::GetPrompt => "Prompt",
            Self::ReadResource => "Resource",
        }
    }

    /// The attributes `operation` and `feature`.
    pub(crate) fn operation_and_feature(self) -> (&'static str, &'static str) {
        match self {
            Self::CallTool => ("call", "tool"),
            Self::GetPrompt => ("get", "prompt"),
            Self::ReadResource => ("read", "resource"),
        }
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug)]
pub enum AccessRequest<'a> {
    /// Call a tool, or see it listed (then without arguments).
    CallTool {
        /// The advertised name.
        name: &'a str,
        /// The backend that offers it, where the tool is known.
        backend: Option<&'a str>,
        /// The annotations in force, where the tool is known.
        hints: Option<&'a ToolHints>,
        /// The arguments object, if any was sent.
        arguments: Option<&'a Json>,
    },
    /// Get a prompt, see it listed, or complete one of its arguments.
    GetPrompt {
        /// The advertised name.
        name: &'a str,
    },
    /// Read a resource, see it listed, or see or complete a template, whose URI template then stands for the URI.
    ReadResource {
        /// The URI, or the URI template.
        uri: &'a str,
    },
}

impl AccessRequest<'_> {
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
            Self::CallTool { name, .. } | Self::GetPrompt { name } => name,
            Self::ReadResource { uri } => uri,
        }
    }
}

/// Names entities of a few types without parsing each type's name again.
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

    /// A server by its name: this gateway, or a backend.
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

    /// True for the entities that are made anew for every request.
    pub(crate) fn is_request_entity(&self, uid: &EntityUid) -> bool {
        uid.type_name() == &self.client || self.items.contains(uid.type_name()) || self.actions.contains(uid)
    }
}
