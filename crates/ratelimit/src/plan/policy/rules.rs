//! Which tools and methods limits are on, and what calls cost.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmcp_domain::{Tool, ToolHints};

use super::{Limits, Mode, Price};
use crate::plan::pattern::Pattern;

/// Limits on the tools a pattern names.
#[derive(Clone, Debug)]
pub struct ToolRule {
    /// The advertised names.
    pub name: Pattern,
    /// Only tools of which this is to be assumed.
    pub annotation: Option<ToolAnnotation>,
    /// One bucket for all tools that fit, in place of one for each.
    pub group: bool,
    /// The limits.
    pub limits: Limits,
    /// What one call of these tools costs in every bucket it is charged to; the largest of several rules counts.
    pub cost: Cost,
}

/// What one call costs, in tokens.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The least.
    pub minimum: NonZeroU32,
    /// By what the call asks for.
    pub price: Option<Arc<Price>>,
    /// What the call turned out to cost, by its result: the difference is charged or given back when it has ended.
    pub settle: Option<Arc<Price>>,
    /// Whether this counts for others, where the rule limits nothing itself.
    pub mode: Mode,
}

impl From<NonZeroU32> for Cost {
    fn from(least: NonZeroU32) -> Self {
        Self { minimum: least, price: None, settle: None, mode: Mode::Enforce }
    }
}

impl Default for Cost {
    fn default() -> Self {
        NonZeroU32::MIN.into()
    }
}

/// Limits on requests of one method that calls no tool.
#[derive(Clone, Debug)]
pub struct MethodRule {
    /// Which.
    pub method: Method,
    /// The limits.
    pub limits: Limits,
}

/// What clients may ask besides calls of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A page of the tools.
    ListTools,
    /// A page of the resources.
    ListResources,
    /// A page of the resource templates.
    ListTemplates,
    /// A page of the prompts.
    ListPrompts,
    /// A resource.
    ReadResource,
    /// A prompt.
    GetPrompt,
    /// The completion of an argument.
    Complete,
    /// To hear of a resource's changes, whether by itself or on a stream.
    Subscribe,
    /// A stream of changes.
    Listen,
}

impl Method {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::ListTools,
        Self::ListResources,
        Self::ListTemplates,
        Self::ListPrompts,
        Self::ReadResource,
        Self::GetPrompt,
        Self::Complete,
        Self::Subscribe,
        Self::Listen,
    ];

    /// The method's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ListTools => "tools/list",
            Self::ListResources => "resources/list",
            Self::ListTemplates => "resources/templates/list",
            Self::ListPrompts => "prompts/list",
            Self::ReadResource => "resources/read",
            Self::GetPrompt => "prompts/get",
            Self::Complete => "completion/complete",
            Self::Subscribe => "resources/subscribe",
            Self::Listen => "subscriptions/listen",
        }
    }
}

impl ToolRule {
    /// The rule as the configuration names it.
    #[must_use]
    pub fn config_path(&self) -> String {
        match self.annotation {
            None => format!("tools[{}]", self.name),
            Some(hint) => format!("byAnnotation.{}", hint.as_str()),
        }
    }

    /// False when the rule is on trial for callers who stand at so many of a hundred: none of its limits refuses them. What
    /// it says of costs counts in its own buckets alone then.
    #[must_use]
    pub fn is_enforced_at(&self, standing: u8) -> bool {
        let Limits { concurrency, .. } = &self.limits;
        let counts_calls = concurrency.shared.is_some() || concurrency.per_user.is_some();
        if self.limits.quotas().next().is_none() && !counts_calls {
            return self.cost.mode == Mode::Enforce;
        }
        let refuses = self.limits.quotas().any(|quota| quota.mode_at(standing) == Mode::Enforce);
        refuses || (counts_calls && concurrency.mode == Mode::Enforce)
    }

    /// Whether the rule is for this tool.
    #[must_use]
    pub fn matches(&self, tool: &Tool) -> bool {
        // A virtual tool is charged only where a rule names it; the calls it makes are charged as the calls they are.
        self.name.matches(tool.name.as_str())
            && (self.name.is_exact() || !tool.target.is_virtual())
            && self.annotation.is_none_or(|hint| hint.matches(tool))
    }
}

/// What a tool's annotations let one assume of it. Where they say nothing, the specification's defaults hold, which are the
/// careful ones (2025-11-25, `ToolAnnotations`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToolAnnotation {
    /// It changes something: it does not say that it only reads.
    Writes,
    /// It may destroy something: it neither says that it only reads nor that it does not destroy.
    Destructive,
    /// It reaches beyond its own server: it does not say that it does not.
    OpenWorld,
}

impl ToolAnnotation {
    /// The key in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Destructive => "destructive",
            Self::OpenWorld => "openWorld",
        }
    }

    fn matches(self, tool: &Tool) -> bool {
        // What the operator wrote stands in these already.
        let ToolHints { read_only, destructive, open_world, .. } = tool.hints;
        let writes = read_only != Some(true);
        match self {
            Self::Writes => writes,
            Self::Destructive => writes && destructive != Some(false),
            Self::OpenWorld => open_world != Some(false),
        }
    }
}
