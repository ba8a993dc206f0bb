//! The validated settings of federation: how clashing names are resolved, which tools are shown, and how
//! they are renamed. Built by `vmcp` from the config file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use vmcp_domain::{BackendId, BackendToolName, Inventory, ToolName, ToolOverride};

use crate::catalogue::finding::Finding;

/// How several backends become one list.
#[derive(Clone, Debug)]
pub struct AggregationPolicy {
    /// What happens when two backends offer the same name.
    pub conflicts: ConflictPolicy,
    /// Whether backends without a [`ToolPolicy`] show their tools.
    pub default_visibility: Visibility,
    /// Hides every tool of every backend from clients.
    pub exclude_all_tools: bool,
    /// What is set for single backends.
    pub backends: BTreeMap<BackendId, ToolPolicy>,
}

impl Default for AggregationPolicy {
    fn default() -> Self {
        Self {
            conflicts: ConflictPolicy::Auto { format: PrefixFormat::default() },
            default_visibility: Visibility::Show,
            exclude_all_tools: false,
            backends: BTreeMap::new(),
        }
    }
}

/// What happens when names clash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// Every tool and prompt gets its backend's prefix.
    Prefix {
        /// How the prefix looks.
        format: PrefixFormat,
    },
    /// The backend listed first keeps a clashing name; the others' tools of that name are dropped.
    /// Tools that clash only among unlisted backends get a prefix.
    Priority {
        /// Backends, the strongest first.
        order: Vec<BackendId>,
        /// How the prefix looks where one is needed.
        format: PrefixFormat,
    },
    /// A clash that no override resolves is an error.
    Manual,
    /// Only names that clash get a prefix.
    Auto {
        /// How the prefix looks.
        format: PrefixFormat,
    },
}

/// How a name is made from a backend and a tool: the placeholder `{workload}` becomes the backend's name,
/// and the tool's own name follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixFormat(String);

impl Default for PrefixFormat {
    fn default() -> Self {
        Self("{workload}_".to_owned())
    }
}

impl PrefixFormat {
    /// Takes over a format. Without the placeholder `{workload}` every backend gets the same prefix.
    pub fn new(format: impl Into<String>) -> Self {
        Self(format.into())
    }

    /// True when backends get different prefixes.
    #[must_use]
    pub fn has_backend_placeholder(&self) -> bool {
        self.0.contains("{workload}")
    }

    /// The name of `tool` with the prefix of `backend`.
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

/// Whether something is shown to clients when nothing more particular is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Shown.
    Show,
    /// Hidden, and refused when called directly.
    Hide,
}

/// What is set for the tools of one backend.
#[derive(Clone, Debug, Default)]
pub struct ToolPolicy {
    /// Hides all of them.
    pub exclude_all: bool,
    /// Shows only these, by their name after overrides and before any prefix. `None` shows all.
    pub filter: Option<BTreeSet<ToolName>>,
    /// New names, by the backend's own name of the tool. Applied before conflicts are resolved.
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

    /// Whether clients may see and call a tool, by its name after renames and before any prefix.
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

    /// Names in the configuration that the backend does not offer.
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

/// How backends are watched: each is asked for its whole offer from time to time, which also finds changes that a
/// backend does not announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// How often each is asked.
    pub interval: Duration,
    /// How long one check may take; less than the interval.
    pub timeout: Duration,
    /// How many failed checks in a row take a backend out of the lists; at least 1.
    pub unhealthy_threshold: u32,
    /// When to stop calling a backend that keeps failing. `None` never does.
    pub breaker: Option<BreakerPolicy>,
}

impl HealthPolicy {
    /// The reference's defaults.
    pub const DEFAULT: Self = Self {
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(10),
        unhealthy_threshold: 3,
        breaker: None,
    };
}

/// When to stop calling a backend that keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// How many failures in a row open it; at least 1.
    pub failure_threshold: u32,
    /// How long it stays open before one call is tried; at least a second.
    pub timeout: Duration,
}

impl BreakerPolicy {
    /// The reference's defaults, once it is turned on.
    pub const DEFAULT: Self = Self { failure_threshold: 5, timeout: Duration::from_secs(60) };
}
