//! What makes calls of one tool differ to the limits: their price, and their callers (module `caller`).

use std::num::NonZeroU32;
use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error};
use vmcp_json::Json;

use crate::bucket::calendar::Period;
use crate::limiter::observer::DecisionEvent;
use crate::limiter::{Limiter, ToolPlan};
use crate::plan::price::PricedCall;
use crate::plan::{Costs, RulePrice, UNPAYABLE, Variation};

/// Arguments of more bytes than this are not evaluated for a call that is refused at any price, because
/// evaluating a price may take as long as the arguments are long. The wait in that refusal is for the minimum
/// price and may be too short for the call's own.
const UNPRICED_BYTES_MAX: usize = 8 << 10;

/// What is known of a call's arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arguments<'a> {
    /// The arguments of a call, if any were sent.
    Sent(Option<&'a Json>),
    /// No call was made yet. Prices are then the minimum of the rules.
    Unknown,
}

impl Limiter {
    /// The plan of one call that is to be made. A call that fails here is reported to the observer like one
    /// that a limit refuses. `may_be_paid` is true when the call may have been paid for before.
    ///
    /// # Errors
    /// [`Error::IdentityRequired`] for a caller without a claim or an identity that an enforced limit needs.
    /// [`Error::InvalidRequest`] where the price cannot be computed from the arguments, or a value is
    /// ambiguous. [`Error::RateLimited`] for a call with long arguments that even the minimum price refuses.
    pub(crate) fn plan_call(
        &self,
        tool_plan: &Arc<ToolPlan>,
        ctx: &CallContext,
        arguments: Option<&Json>,
        may_be_paid: bool,
    ) -> Result<Arc<ToolPlan>, Error> {
        let mut event = DecisionEvent::new(&tool_plan.limited, self.clock.now());
        let varied =
            self.plan_unpriced_variant(tool_plan, ctx, Arguments::Sent(arguments)).and_then(|tool_plan| {
                let is_long =
                    arguments.is_some_and(|arguments| arguments.as_str().len() > UNPRICED_BYTES_MAX);
                let is_priced = !tool_plan.plan.variation_inputs.prices.is_empty();
                let refusal = if is_priced && is_long && !may_be_paid {
                    self.minimum_price_refusal(&tool_plan, ctx)
                } else {
                    None
                };
                match refusal {
                    Some(refusal) => Err(refusal),
                    None => with_price(tool_plan, &ctx.caller, Arguments::Sent(arguments)),
                }
            });
        if let Err(error) = &varied {
            if let Error::RateLimited(refusal) = error {
                event.checked_scopes.extend(tool_plan.plan.enforced_scopes());
                (event.scope, event.refusal) = (Some(refusal.scope), Some(&**refusal));
                if let Caller::Known(identity) = &ctx.caller {
                    self.top_callers.count(self.user_key(identity), identity, true);
                }
            }
            self.observer.on_decision(&event);
        }
        varied
    }

    /// The refusal of a call that its buckets cannot pay even at the minimum price, as far as this process
    /// knows without asking the store.
    fn minimum_price_refusal(&self, tool_plan: &ToolPlan, ctx: &CallContext) -> Option<Error> {
        let user = self.limited_user(tool_plan, ctx).ok()?;
        if let Some(error) = self.futile_wait_refusal(tool_plan, &user) {
            return Some(error);
        }
        let sharing = self.sharing.as_ref().filter(|_| !tool_plan.plan.may_wait)?;
        self.check_known_refusal(sharing, tool_plan, &user).err().map(|refusal| refusal.error)
    }

    /// The plan of one call, whether it is made or not.
    ///
    /// # Errors
    /// [`Error::IdentityRequired`] and [`Error::InvalidRequest`] as [`Limiter::plan_call`].
    pub(crate) fn plan_variant(
        &self,
        tool_plan: &Arc<ToolPlan>,
        ctx: &CallContext,
        arguments: Arguments<'_>,
    ) -> Result<Arc<ToolPlan>, Error> {
        with_price(self.plan_unpriced_variant(tool_plan, ctx, arguments)?, &ctx.caller, arguments)
    }

    /// The plan of a caller's calls at the minimum price.
    fn plan_unpriced_variant(
        &self,
        tool_plan: &Arc<ToolPlan>,
        ctx: &CallContext,
        arguments: Arguments<'_>,
    ) -> Result<Arc<ToolPlan>, Error> {
        let variation_inputs = &tool_plan.plan.variation_inputs;
        if variation_inputs.is_empty() {
            return Ok(tool_plan.clone());
        }
        let percentile = self.percentile(ctx);
        let reached = variation_inputs.percents.iter().copied().take_while(|percent| *percent <= percentile);
        let (values, sizes) = self.caller_variation(tool_plan, (ctx, arguments), percentile)?;
        let standing = reached.last().unwrap_or(0);
        let periods = self.current_periods(tool_plan);
        let variation = Variation { costs: Costs::default(), values, sizes, percentile: standing, periods };
        let makers = (&*self.planner, self.leases.as_deref());
        Ok(tool_plan.variant(makers, variation, self.clock.now()))
    }

    /// The present periods of calendar quotas.
    pub(in crate::limiter) fn current_periods(&self, tool_plan: &ToolPlan) -> SmallVec<[Period; 1]> {
        let calendars = &tool_plan.plan.variation_inputs.calendars;
        if calendars.is_empty() {
            return SmallVec::new();
        }
        let now = self.clock.time_of_day();
        calendars.iter().map(|calendar| calendar.period(now)).collect()
    }
}

/// The plan of a call at the price of its arguments.
fn with_price(
    tool_plan: Arc<ToolPlan>,
    caller: &Caller,
    arguments: Arguments<'_>,
) -> Result<Arc<ToolPlan>, Error> {
    Ok(match call_costs(&tool_plan, caller, arguments)? {
        Some(costs) => Arc::new(tool_plan.with_costs(costs)),
        None => tool_plan,
    })
}

/// What a call costs, where that is more than the minimum of the rules.
fn call_costs(
    tool_plan: &ToolPlan,
    caller: &Caller,
    arguments: Arguments<'_>,
) -> Result<Option<Costs>, Error> {
    let (Arguments::Sent(arguments), Some(tool)) = (arguments, tool_plan.request.tool()) else {
        return Ok(None);
    };
    let priced = PricedCall { tool, caller, arguments, after: None };
    let mut costs = Costs::default();
    for RulePrice { price, shadow_rule } in &tool_plan.plan.variation_inputs.prices {
        match (price.evaluate(&priced), shadow_rule) {
            (Ok(cost), _) => {
                if let Some(cost) = NonZeroU32::new(cost) {
                    costs.add(*shadow_rule, cost);
                }
            }
            (Err(error), None) if tool_plan.plan.has_enforced() => {
                // The cost of the call is unknown, so it is refused.
                let tool = &tool.name;
                tracing::info!(%tool, %price, error = error.for_log(), "refused: the price cannot be computed");
                return Err(Error::InvalidRequest(format!(
                    "the price of this call of tool `{tool}` cannot be computed: {error}"
                )));
            }
            (Err(error), _) => {
                let tool = &tool.name;
                tracing::info!(%tool, %price, error = error.for_log(), "a rule in shadow mode would have refused: no price");
                costs.add(*shadow_rule, UNPAYABLE);
            }
        }
    }
    let is_dearer = tool_plan
        .plan
        .buckets
        .iter()
        .any(|bucket| costs.for_bucket(bucket.shadow_rule, bucket.cost) > bucket.cost);
    Ok(is_dearer.then_some(costs))
}
