//! What makes calls of one tool differ to the limits: what they cost, and who their callers are (`who`).

use std::num::NonZeroU32;
use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error, Json};

use crate::bucket::calendar::Period;
use crate::limiter::observer::DecisionEvent;
use crate::limiter::{Limiter, ToolPlan};
use crate::plan::price::PricedCall;
use crate::plan::{Costs, RulePrice, UNPAYABLE, Variation};

/// Arguments of more bytes than this are not looked at for a call that is refused at any price: a price may take as long to
/// compute as they are. What such a call is told to wait is for the least price, and may be too short for its own.
const UNPRICED_BYTES_MAX: usize = 8 << 10;

/// What is known of a call's arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arguments<'a> {
    /// These, if any were sent.
    Sent(Option<&'a Json>),
    /// Nothing: nobody calls yet. Prices are then what the rules say at least.
    Unknown,
}

impl Limiter {
    /// The plan of one call that is to be made. A call that is not made is told of like one that a limit refuses. `may_be_paid` says
    /// that it may be one that was paid for before.
    ///
    /// # Errors
    /// [`Error::Denied`] for a caller without a claim that a limit is kept for, [`Error::InvalidRequest`] where the
    /// arguments leave the price open.
    pub(crate) fn plan_call(
        &self,
        bound: &Arc<ToolPlan>,
        ctx: &CallContext,
        arguments: Option<&Json>,
        may_be_paid: bool,
    ) -> Result<Arc<ToolPlan>, Error> {
        let mut event = DecisionEvent::new(&bound.limited, self.clock.now());
        let varied = self.plan_unpriced_variant(bound, ctx, Arguments::Sent(arguments)).and_then(|bound| {
            let is_long = arguments.is_some_and(|arguments| arguments.as_str().len() > UNPRICED_BYTES_MAX);
            let is_priced = !bound.plan.variation_inputs.prices.is_empty();
            let refusal = if is_priced && is_long && !may_be_paid {
                self.minimum_price_refusal(&bound, ctx)
            } else {
                None
            };
            match refusal {
                Some(refusal) => Err(refusal),
                None => with_price(bound, &ctx.caller, Arguments::Sent(arguments)),
            }
        });
        if let Err(error) = &varied {
            if let Error::RateLimited(refusal) = error {
                event.checked_scopes.extend(bound.plan.enforced_scopes());
                (event.scope, event.refusal) = (Some(refusal.scope), Some(&**refusal));
                if let Caller::Known(identity) = &ctx.caller {
                    self.top_callers.count(self.user_key(identity), identity, true);
                }
            }
            self.observer.on_decision(&event);
        }
        varied
    }

    /// The refusal of a call that its buckets cannot pay even if it costs no more than the rules say at least, as far as this
    /// process knows without asking.
    fn minimum_price_refusal(&self, bound: &ToolPlan, ctx: &CallContext) -> Option<Error> {
        let user = self.limited_user(bound, ctx).ok()?;
        if let Some(error) = self.futile_wait_refusal(bound, &user) {
            return Some(error);
        }
        let sharing = self.sharing.as_ref().filter(|_| !bound.plan.may_wait)?;
        self.check_known_refusal(sharing, bound, &user).err().map(|denial| denial.error)
    }

    /// The plan of one call, whether it is made or not.
    ///
    /// # Errors
    /// As [`Limiter::plan_call`].
    pub(crate) fn plan_variant(
        &self,
        bound: &Arc<ToolPlan>,
        ctx: &CallContext,
        arguments: Arguments<'_>,
    ) -> Result<Arc<ToolPlan>, Error> {
        with_price(self.plan_unpriced_variant(bound, ctx, arguments)?, &ctx.caller, arguments)
    }

    /// The plan of a caller's calls at the least price.
    fn plan_unpriced_variant(
        &self,
        bound: &Arc<ToolPlan>,
        ctx: &CallContext,
        arguments: Arguments<'_>,
    ) -> Result<Arc<ToolPlan>, Error> {
        let varies = &bound.plan.variation_inputs;
        if varies.is_empty() {
            return Ok(bound.clone());
        }
        let place = self.percentile(ctx);
        let reached = varies.percents.iter().copied().take_while(|percent| *percent <= place);
        let (values, sizes) = self.caller_variation(bound, (ctx, arguments), place)?;
        let standing = reached.last().unwrap_or(0);
        let periods = self.current_periods(bound);
        let variation = Variation { costs: Costs::default(), values, sizes, percentile: standing, periods };
        let makers = (&*self.planner, self.leases.as_deref());
        Ok(bound.variant(makers, variation, self.clock.now()))
    }

    /// The present periods of quotas by the calendar.
    pub(in crate::limiter) fn current_periods(&self, bound: &ToolPlan) -> SmallVec<[Period; 1]> {
        let calendars = &bound.plan.variation_inputs.calendars;
        if calendars.is_empty() {
            return SmallVec::new();
        }
        let now = self.clock.time_of_day();
        calendars.iter().map(|calendar| calendar.period(now)).collect()
    }
}

/// The plan of a call at the price of its arguments.
fn with_price(
    bound: Arc<ToolPlan>,
    caller: &Caller,
    arguments: Arguments<'_>,
) -> Result<Arc<ToolPlan>, Error> {
    Ok(match call_costs(&bound, caller, arguments)? {
        Some(costs) => Arc::new(bound.with_costs(costs)),
        None => bound,
    })
}

/// What a call costs, where that is more than the rules say at least.
fn call_costs(bound: &ToolPlan, caller: &Caller, arguments: Arguments<'_>) -> Result<Option<Costs>, Error> {
    let (Arguments::Sent(arguments), Some(tool)) = (arguments, bound.request.tool()) else { return Ok(None) };
    let priced = PricedCall { tool, caller, arguments, after: None };
    let mut costs = Costs::default();
    for RulePrice { price, shadow_rule: trial } in &bound.plan.variation_inputs.prices {
        match (price.evaluate(&priced), trial) {
            (Ok(cost), _) => {
                if let Some(cost) = NonZeroU32::new(cost) {
                    costs.add(*trial, cost);
                }
            }
            (Err(error), None) if bound.plan.has_enforced() => {
                // Nobody knows what the call would cost, so it is not made.
                let tool = &tool.name;
                tracing::info!(%tool, %price, error = error.for_log(), "refused: the price cannot be computed");
                return Err(Error::InvalidRequest(format!(
                    "the price of this call of tool `{tool}` cannot be computed: {error}"
                )));
            }
            (Err(error), _) => {
                let tool = &tool.name;
                tracing::info!(%tool, %price, error = error.for_log(), "a rule in shadow mode would have refused: no price");
                costs.add(*trial, UNPAYABLE);
            }
        }
    }
    let is_dearer = bound
        .plan
        .buckets
        .iter()
        .any(|bucket| costs.for_bucket(bucket.shadow_rule, bucket.cost) > bucket.cost);
    Ok(is_dearer.then_some(costs))
}
