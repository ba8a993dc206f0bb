//! Refusals by rate limits: which rule refused, whose calls it counts, and when the call may be retried.

use std::fmt;
use std::time::Duration;

use crate::catalogue::name::ToolName;

/// The scope of a limit: the calls that it counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitScope {
    /// All callers, over all tools.
    Server,
    /// All callers, for one tool or one group of tools.
    Tool,
    /// All callers with the same value of a claim, such as a team, over all tools.
    Claim,
    /// All callers with the same value of a claim, for one tool or one group of tools.
    ClaimTool,
    /// All calls with the same value of an argument or header, over all tools.
    Value,
    /// All calls with the same value of an argument or header, for one tool or one group of tools.
    ValueTool,
    /// One user, over all tools.
    User,
    /// One user, for one tool or one group of tools.
    UserTool,
}

impl LimitScope {
    /// The scope's name in answers, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Tool => "tool",
            Self::Claim => "claim",
            Self::ClaimTool => "claim_tool",
            Self::Value => "value",
            Self::ValueTool => "value_tool",
            Self::User => "user",
            Self::UserTool => "user_tool",
        }
    }
}

/// When a refused call may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this time, exact to the microsecond, if no other caller spends in the meantime.
    After(Duration),
    /// When one of the in-flight calls ends, which cannot be predicted.
    WhenReleased,
    /// Never: one call costs more than the bucket's capacity.
    Never,
    /// Never: calls that are charged together cost more than the bucket's capacity.
    NeverTogether,
    /// Never: the limit allows this caller no call.
    Blocked,
}

/// The operation that a limit applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitedOperation {
    /// Calls of a tool.
    Tool(ToolName),
    /// Requests of another method, by its name on the wire.
    Method(&'static str),
}

impl fmt::Display for LimitedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(name) => name.fmt(f),
            Self::Method(name) => f.write_str(name),
        }
    }
}

/// A refusal by a rate limit. It names no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The tool call or the method that was refused.
    pub operation: LimitedOperation,
    /// The name of the rule in the configuration. When several rules refuse, it is the one with the longest
    /// wait.
    pub rule: String,
    /// The scope of the rule: the calls that it counts together.
    pub scope: LimitScope,
    /// When the call may be retried.
    pub retry: Retry,
    /// The allowance of the rule: this number of calls in this period.
    pub allowance: Option<(u64, Duration)>,
    /// For a calendar limit, when the next period begins, in the limit's time zone. `None` for a token
    /// bucket, which refills continuously.
    pub resets_at: Option<String>,
}

impl RateLimit {
    /// The retry delay for formats that require one: one second when it cannot be predicted, `None` for
    /// never.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.retry {
            Retry::After(wait) => Some(wait),
            Retry::WhenReleased => Some(Duration::from_secs(1)),
            Retry::Never | Retry::NeverTogether | Retry::Blocked => None,
        }
    }

    /// The retry delay in whole seconds, rounded up and never zero.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after()
            .map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
            .map(|seconds| seconds.max(1))
    }
}

impl RateLimit {
    /// Who cannot do what, as the beginning of a sentence.
    fn subject(&self) -> String {
        let rule = &self.rule;
        match (&self.operation, self.scope) {
            (LimitedOperation::Tool(_), LimitScope::Server) => {
                "no tool of this server can be called".to_owned()
            }
            (LimitedOperation::Tool(tool), LimitScope::Tool) => {
                format!("tool `{tool}` cannot be called by anyone")
            }
            (LimitedOperation::Tool(_), LimitScope::Claim) => {
                "your group cannot call any tool of this server".to_owned()
            }
            (LimitedOperation::Tool(tool), LimitScope::ClaimTool) => {
                format!("your group cannot call tool `{tool}`")
            }
            (LimitedOperation::Tool(_), LimitScope::Value) => {
                format!("no tool of this server can be called with the same value (`{rule}`)")
            }
            (LimitedOperation::Tool(tool), LimitScope::ValueTool) => {
                format!("tool `{tool}` cannot be called with the same value (`{rule}`)")
            }
            (LimitedOperation::Tool(_), LimitScope::User) => {
                "you cannot call any tool of this server".to_owned()
            }
            (LimitedOperation::Tool(tool), LimitScope::UserTool) => format!("you cannot call tool `{tool}`"),
            (LimitedOperation::Method(name), LimitScope::Server | LimitScope::Tool) => {
                format!("`{name}` cannot be requested")
            }
            (LimitedOperation::Method(name), LimitScope::Claim | LimitScope::ClaimTool) => {
                format!("your group cannot ask for `{name}`")
            }
            (LimitedOperation::Method(name), LimitScope::Value | LimitScope::ValueTool) => {
                format!("`{name}` cannot be asked for with the same value (`{rule}`)")
            }
            (LimitedOperation::Method(name), LimitScope::User | LimitScope::UserTool) => {
                format!("you cannot ask for `{name}`")
            }
        }
    }
}

/// A refusal because the same call was repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatedCall {
    /// The tool of the refused call.
    pub tool: ToolName,
    /// How many times in a row the call had the same outcome.
    pub count: u32,
    /// The time after which the call is made again.
    pub retry_after: Duration,
}

impl fmt::Display for RepeatedCall {
    /// Writes a sentence that a model can act on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tool, count, retry_after } = self;
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        write!(
            f,
            "Not called: tool `{tool}` was called {count} times in a row with these arguments and gave the same result each \
             time. Use the result you have, change the arguments, or try something else; the same call is made again in \
             {seconds} seconds at the earliest"
        )
    }
}

impl fmt::Display for RateLimit {
    /// Writes a sentence that a model can act on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, what) = (&self.rule, self.subject());
        let one = match &self.operation {
            LimitedOperation::Tool(tool) => format!("this call of tool `{tool}`"),
            LimitedOperation::Method(name) => format!("this request for `{name}`"),
        };
        match self.retry {
            Retry::After(_) => {
                let seconds = self.retry_after_seconds().unwrap_or(1);
                let plural = if seconds == 1 { "" } else { "s" };
                if let Some(resets) = &self.resets_at {
                    return write!(
                        f,
                        "Rate limit exceeded: {what} before {resets}, in {seconds} second{plural}; do not try again \
                         before then"
                    );
                }
                write!(
                    f,
                    "Rate limit exceeded: {what} for {seconds} second{plural}; wait that long, then try again"
                )
            }
            Retry::WhenReleased => {
                write!(f, "Rate limit exceeded: {what} until a running call has ended; try again in a moment")
            }
            Retry::Never => write!(
                f,
                "Rate limit exceeded: {one} costs more than its limit ever holds; ask for less, or do not try again"
            ),
            Retry::NeverTogether => write!(
                f,
                "Rate limit exceeded: the calls of this run cost more together than `{rule}` ever holds; nothing of them was \
                 called. Ask for less, or do not try again"
            ),
            Retry::Blocked => {
                write!(f, "Rate limit exceeded: {what}, because an operator has blocked it; do not try again")
            }
        }
    }
}
