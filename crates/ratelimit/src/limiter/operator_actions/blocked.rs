//! Calls of tools that an operator has blocked.

use std::sync::Arc;
use std::time::Duration;

use vmcp_domain::{CallContext, Caller, Error, LimitScope, RateLimit, Retry, ToolList, ToolName};

use crate::limiter::observer::DecisionEvent;
use crate::limiter::{Limiter, ToolPlan};
use crate::shared::blocks::block_key;
use crate::shared::store::user_digest;

/// The rule name in refusals.
const RULE: &str = "blocked by an operator";
/// A block that lasts longer is reported as one without an end.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

impl Limiter {
    /// The refusal of a call whose tool is blocked for its caller, or for all callers; `None` if neither is.
    pub(crate) fn block_refusal(&self, tool_plan: &ToolPlan, ctx: &CallContext) -> Option<Error> {
        if !self.blocks.has_any() {
            return None;
        }
        let target = &tool_plan.request.tool()?.target;
        let own = match &ctx.caller {
            Caller::Known(identity) => {
                self.blocks.remaining(&block_key(Some(&user_digest(identity)), target))
            }
            Caller::Anonymous => None,
        };
        let of_all = self.blocks.remaining(&block_key(None, target));
        let scope = if own.is_some() { LimitScope::UserTool } else { LimitScope::Tool };
        let left = own.max(of_all)?;
        let refusal = RateLimit {
            operation: tool_plan.limited.clone(),
            rule: RULE.to_owned(),
            scope,
            retry: if left > RETRY_AFTER_MAX { Retry::Blocked } else { Retry::After(left) },
            allowance: None,
            resets_at: None,
        };
        let mut event = DecisionEvent::new(&tool_plan.limited, self.clock.now());
        (event.scope, event.refusal) = (Some(scope), Some(&refusal));
        self.observer.on_decision(&event);
        Some(Error::RateLimited(Box::new(refusal)))
    }

    /// Blocks a tool for the duration `duration`, or lifts the block where that is `None`. It applies to the
    /// caller of `ctx`, or to all callers where that is anonymous. Returns false when there are too many
    /// blocks.
    ///
    /// # Errors
    /// [`Error::UnknownTool`] when there is no such tool, [`Error::LimitsUnavailable`] when the store does
    /// not answer.
    pub async fn block(
        &self,
        tools: &Arc<ToolList>,
        name: &ToolName,
        ctx: &CallContext,
        duration: Option<Duration>,
    ) -> Result<bool, Error> {
        let tool_plan = self.any_tool_plan(tools, name);
        let tool = tool_plan.as_ref().and_then(|tool_plan| tool_plan.request.tool());
        let tool = tool.ok_or_else(|| Error::UnknownTool(name.clone()))?;
        let user = match &ctx.caller {
            Caller::Known(identity) => Some(user_digest(identity)),
            Caller::Anonymous => None,
        };
        let block = block_key(user.as_deref(), &tool.target);
        match &self.sharing {
            Some(sharing) => {
                sharing.store.block(&block, duration).await.map_err(|_| Error::LimitsUnavailable)
            }
            None => Ok(self.blocks.set(&block, duration)),
        }
    }

    /// The number of blocks in force.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.blocks.count()
    }
}
