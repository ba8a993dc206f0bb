//! The validated settings of federation: how name conflicts are resolved, which tools are visible, and how
//! tools are renamed. The crate `vmcp` builds them from the config file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use vmcp_domain::{
    BackendId, BackendPromptName, BackendToolName, Inventory, PromptName, ToolName, ToolOverride,
};

use crate::catalogue::finding::Finding;
use crate::catalogue::safe_names::safe_form;

/// How the lists of several backends are merged into one.
#[derive(Clone, Debug)]
pub struct AggregationPolicy {
    /// How a name that several backends offer is resolved.
    pub conflicts: ConflictPolicy,
    /// Which names clients see.
    pub names: NameStyle,
    /// What happens to a tool that differs from its record.
    pub pin_mode: PinMode,
    /// Whether a session keeps the first complete list of tools that it received. The client edge does it.
    pub freezes_tools: bool,
    /// Whether the tools of backends without an entry in `backends` are visible.
    pub default_visibility: Visibility,
    /// Hides every tool of every backend from clients. It overrides all other visibility settings.
    pub exclude_all_tools: bool,
    /// The settings of single backends, by the backend's name.
    pub backends: BTreeMap<BackendId, ToolPolicy>,
}

impl Default for AggregationPolicy {
    fn default() -> Self {
        Self {
            conflicts: ConflictPolicy::Auto { format: PrefixFormat::default() },
            names: NameStyle::Any,
            pin_mode: PinMode::Warn,
            freezes_tools: false,
            default_visibility: Visibility::Show,
            exclude_all_tools: false,
            backends: BTreeMap::new(),
        }
    }
}

/// What happens to a tool that differs from its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinMode {
    /// It is offered, logged and shown to operators.
    #[default]
    Warn,
    /// It is held back until an operator approves it.
    Hold,
}

/// Which names of tools and prompts clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameStyle {
    /// The names that backends, renames and prefixes lead to.
    Any,
    /// Names of ASCII letters, digits, `_` and `-`, with at most this many characters.
    Safe {
        /// The maximum length in characters.
        chars_max: usize,
    },
}

/// How a name that several backends offer is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// Every tool and every prompt gets its backend's prefix, whether its name clashes or not.
    Prefix {
        /// The format of the prefix.
        format: PrefixFormat,
    },
    /// The backend that comes first in `order` keeps a clashing tool name. The tools of that name at other
    /// backends are dropped, or get a prefix if they are hidden. Tools that clash only among unlisted
    /// backends get a prefix.
    ///
    /// Prompts differ: each listed backend keeps its prompt names and each unlisted one gets a prefix. No
    /// backend gets a prompt name that is still claimed twice after that.
    Priority {
        /// The names of backends, the highest priority first.
        order: Vec<BackendId>,
        /// The format of the prefix, where one is needed.
        format: PrefixFormat,
    },
    /// No backend gets a clashing tool name. [`Finding::Unresolved`] reports the clash until overrides rename
    /// all but one of the tools. Every prompt gets the default prefix.
    Manual,
    /// Only names that clash get a prefix.
    Auto {
        /// The format of the prefix.
        format: PrefixFormat,
    },
}

/// The prefix that is put before a tool's or a prompt's name. The placeholder `{workload}` is replaced by the
/// backend's name. The default is `{workload}_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixFormat(String);

impl Default for PrefixFormat {
    fn default() -> Self {
        Self("{workload}_".to_owned())
    }
}

impl PrefixFormat {
    /// Creates a format from its text. Without the placeholder `{workload}` every backend gets the same
    /// prefix.
    pub fn new(format: impl Into<String>) -> Self {
        Self(format.into())
    }

    /// True when the format contains `{workload}`, so that different backends get different prefixes.
    #[must_use]
    pub fn has_backend_placeholder(&self) -> bool {
        self.0.contains("{workload}")
    }

    /// Returns the name `tool` with the prefix of `backend`.
    #[must_use]
    pub fn apply(&self, backend: &BackendId, tool: &str) -> String {
        let mut name = self.0.replace("{workload}", backend.as_str());
        name.push_str(tool);
        name
    }
}

impl fmt::Display for PrefixFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether tools are visible to clients by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// The tools are listed and can be called.
    Show,
    /// The tools are not listed, and a direct call is refused.
    Hide,
}

/// The settings for the tools of one backend.
#[derive(Clone, Debug, Default)]
pub struct ToolPolicy {
    /// Hides all tools of the backend. It overrides `filter`.
    pub exclude_all: bool,
    /// The visible tools, by their name after renames and before any prefix. `None` shows all.
    pub filter: Option<BTreeSet<ToolName>>,
    /// New tool names, by the backend's own name of the tool. They apply before conflicts are resolved.
    pub renames: BTreeMap<BackendToolName, ToolName>,
    /// New descriptions and annotations, by the backend's own name of the tool.
    pub overrides: BTreeMap<BackendToolName, ToolOverride>,
}

impl AggregationPolicy {
    /// A tool's name after the operator's rename and before any prefix.
    #[must_use]
    pub fn unprefixed_name(&self, backend: &BackendId, tool: &BackendToolName) -> ToolName {
        let renamed = self.backends.get(backend).and_then(|policy| policy.renames.get(tool));
        renamed.cloned().unwrap_or_else(|| ToolName::from(tool.as_str()))
    }

    /// The name that a tool would have without the other tools, if it is not `advertised`: without a prefix or a
    /// hash that it got only because of them. See [`Tool::contested_name`](vmcp_domain::Tool::contested_name).
    #[must_use]
    pub fn contested_name(
        &self,
        backend: &BackendId,
        tool: &BackendToolName,
        advertised: &ToolName,
    ) -> Option<ToolName> {
        let own = self.unprefixed_name(backend, tool);
        let alone = match &self.conflicts {
            ConflictPolicy::Prefix { format } => format.apply(backend, own.as_str()),
            ConflictPolicy::Auto { .. } | ConflictPolicy::Priority { .. } | ConflictPolicy::Manual => {
                own.as_str().to_owned()
            }
        };
        Some(self.named(alone)).filter(|name| name != advertised.as_str()).map(ToolName::from)
    }

    /// As [`Self::contested_name`], for a prompt that has the name `resolved` before it is made safe. Only `auto`
    /// makes that name depend on other backends.
    pub(crate) fn contested_prompt_name(
        &self,
        prompt: &BackendPromptName,
        resolved: &str,
        advertised: &str,
    ) -> Option<PromptName> {
        let alone = match self.conflicts {
            ConflictPolicy::Auto { .. } => prompt.as_str(),
            ConflictPolicy::Prefix { .. } | ConflictPolicy::Priority { .. } | ConflictPolicy::Manual => {
                resolved
            }
        };
        Some(self.named(alone.to_owned())).filter(|name| name != advertised).map(PromptName::from)
    }

    /// The name in the style of the policy, if no other name would equal it.
    fn named(&self, name: String) -> String {
        match self.names {
            NameStyle::Any => name,
            NameStyle::Safe { chars_max } => safe_form(&name, chars_max),
        }
    }

    /// Whether clients may see and call the tool `name` of `backend`. `name` is the name after renames and
    /// before any prefix.
    #[must_use]
    pub fn is_visible(&self, backend: &BackendId, name: &ToolName) -> bool {
        if self.exclude_all_tools {
            return false;
        }
        match self.backends.get(backend) {
            None => self.default_visibility == Visibility::Show,
            Some(policy) if policy.exclude_all => false,
            Some(policy) => policy.filter.as_ref().is_none_or(|filter| filter.contains(name)),
        }
    }

    /// Finds tool names in the configuration of `backend` that its `inventory` does not contain.
    pub(crate) fn unknown_tools(&self, backend: &BackendId, inventory: &Inventory) -> Vec<Finding> {
        let Some(policy) = self.backends.get(backend) else {
            return Vec::new();
        };
        let offered: BTreeSet<&str> = inventory.tools.iter().map(|tool| tool.name.as_str()).collect();
        let own: BTreeSet<ToolName> =
            inventory.tools.iter().map(|tool| self.unprefixed_name(backend, &tool.name)).collect();
        let by_backend_name = policy.renames.keys().chain(policy.overrides.keys());
        let missing = by_backend_name.map(BackendToolName::as_str).filter(|name| !offered.contains(name));
        let unfiltered =
            policy.filter.iter().flatten().filter(|name| !own.contains(*name)).map(ToolName::as_str);
        missing
            .chain(unfiltered)
            .map(|name| Finding::UnknownTool { name: name.to_owned(), backend: backend.clone() })
            .collect()
    }
}

/// The settings of health checks. A check fetches a backend's complete inventory, which also finds changes
/// that the backend does not announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// The time between two checks of one backend.
    pub interval: Duration,
    /// The time-out of one check. It is less than the interval.
    pub timeout: Duration,
    /// The number of consecutive failed checks after which a backend is removed from the lists; at least 1.
    pub unhealthy_threshold: u32,
    /// When the circuit breaker opens. `None` turns circuit breakers off.
    pub breaker: Option<BreakerPolicy>,
    /// How long requests for lists wait for backends that have neither answered nor failed since the start. Other
    /// requests wait for 15 seconds.
    pub startup_wait: Duration,
}

impl HealthPolicy {
    /// The defaults of the reference implementation: no circuit breaker.
    pub const DEFAULT: Self = Self {
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(10),
        unhealthy_threshold: 3,
        breaker: None,
        startup_wait: Duration::from_secs(2),
    };
}

/// When the circuit breaker of a backend opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// The number of consecutive failures that open the circuit; at least 1.
    pub failure_threshold: u32,
    /// How long the circuit stays open before one trial call is let through; at least one second.
    pub timeout: Duration,
}

impl BreakerPolicy {
    /// The defaults of the reference implementation, used when the breaker is turned on.
    pub const DEFAULT: Self = Self { failure_threshold: 5, timeout: Duration::from_secs(60) };
}
