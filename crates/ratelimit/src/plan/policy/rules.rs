//! The tools and methods that limits apply to, and the cost of calls.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmcp_domain::{NamePattern, Tool, ToolHints};

use super::{Limits, Mode, Price};

/// Limits on the tools that match a pattern.
#[derive(Clone, Debug)]
pub struct ToolRule {
    /// The pattern of advertised tool names.
    pub name: NamePattern,
    /// Restricts the rule to tools with annotations that imply this.
    pub annotation: Option<ToolAnnotation>,
    /// One bucket for all matching tools, instead of one for each.
    pub group: bool,
    /// The limits.
    pub limits: Limits,
    /// What one call of these tools costs in every bucket that it is charged to; of several rules the largest
    /// cost counts.
    pub cost: Cost,
}

/// What one call costs, in tokens.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The smallest cost of a call.
    pub minimum: NonZeroU32,
    /// The price from the content of the call.
    pub price: Option<Arc<Price>>,
    /// The final price from the result of the call. When the call has ended, the difference is charged or
    /// refunded.
    pub settle: Option<Arc<Price>>,
    /// Whether the cost counts in the buckets of other rules. It applies only where this rule has no limits
    /// of its own.
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

/// Limits on requests of one method other than `tools/call`.
#[derive(Clone, Debug)]
pub struct MethodRule {
    /// The method.
    pub method: Method,
    /// The limits.
    pub limits: Limits,
}

/// The methods other than `tools/call` that limits may name.
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
    /// A read of a resource.
    ReadResource,
    /// A prompt.
    GetPrompt,
    /// The completion of an argument.
    Complete,
    /// A subscription to changes of a resource, by a request of its own or on a stream.
    Subscribe,
    /// A stream of change notifications.
    Listen,
}

impl Method {
    /// All methods.
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

    /// False if the rule is in shadow mode for callers at this percentile: none of its limits refuses them.
    /// Its cost then counts in its own buckets only.
    #[must_use]
    pub fn is_enforced_at(&self, percentile: u8) -> bool {
        let Limits { concurrency, .. } = &self.limits;
        let counts_calls = concurrency.shared.is_some() || concurrency.per_user.is_some();
        if self.limits.quotas().next().is_none() && !counts_calls {
            return self.cost.mode == Mode::Enforce;
        }
        let refuses = self.limits.quotas().any(|quota| quota.mode_at(percentile) == Mode::Enforce);
        refuses || (counts_calls && concurrency.mode == Mode::Enforce)
    }

    /// Whether the rule matches this tool.
    #[must_use]
    pub fn matches(&self, tool: &Tool) -> bool {
        // A virtual tool is charged only if a rule names it exactly. The calls that it makes are charged
        // separately, as calls of the tools that they run.
        tool.has_name(|name| self.name.matches(name))
            && (self.name.is_exact() || !tool.target.is_virtual())
            && self.annotation.is_none_or(|hint| hint.matches(tool))
    }
}

/// What may be assumed of a tool from its annotations. A missing annotation has the default of the
/// specification, which is the cautious one (2025-11-25, `ToolAnnotations`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToolAnnotation {
    /// The tool may change something: it is not annotated as read-only.
    Writes,
    /// The tool may destroy something: it is annotated neither as read-only nor as non-destructive.
    Destructive,
    /// The tool may reach beyond its own server: it is not annotated as closed-world.
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
        // The hints already include what the operator configured.
        let ToolHints { read_only, destructive, open_world, .. } = tool.hints;
        let writes = read_only != Some(true);
        match self {
            Self::Writes => writes,
            Self::Destructive => writes && destructive != Some(false),
            Self::OpenWorld => open_world != Some(false),
        }
    }
}
