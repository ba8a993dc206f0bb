//! [`ReserveBudget`]: how a layer that composes calls asks for the budget of all of them.

use crate::future::BoxFuture;
use crate::gateway::GatewayFuture;
use crate::limit::LimitScope;
use crate::request::context::CallContext;
use crate::request::message::CallTool;
use crate::request::reservation::Reservation;

/// A call that is to be made.
#[derive(Clone, Debug)]
pub struct PlannedCall {
    /// The call.
    pub call: CallTool,
    /// False if the arguments depend on calls that were not made yet. The call is then not reserved where a limit
    /// depends on them: it is charged when it is made.
    pub arguments_known: bool,
}

impl From<CallTool> for PlannedCall {
    fn from(call: CallTool) -> Self {
        Self { call, arguments_known: true }
    }
}

/// What some calls spend together at one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetNeed {
    /// The rule, as the configuration names it.
    pub rule: String,
    /// What the limit counts by.
    pub scope: LimitScope,
    /// The tokens that the calls need together.
    pub needed: u32,
    /// The most tokens that the limit holds.
    pub capacity: u64,
    /// Whether the limit refuses calls. If not, it is in shadow mode.
    pub is_enforced: bool,
    /// Whether `needed` may be more, because some arguments are not known.
    pub is_minimum: bool,
    /// Whether some callers have another limit.
    pub has_overrides: bool,
}

impl BudgetNeed {
    /// Whether the limit refuses the calls however full it is and for all callers.
    #[must_use]
    pub fn exceeds_capacity(&self) -> bool {
        self.is_enforced && !self.has_overrides && u64::from(self.needed) > self.capacity
    }
}

/// Reserves budget in advance.
pub trait ReserveBudget: Send + Sync {
    /// Reserves the budget of all these calls in one decision. Calls of the same tools at the same price
    /// spend it, in any order, when they carry it in [`CallContext::reservation`]. Other calls are charged as
    /// usual. Limits on in-flight calls are not reserved.
    ///
    /// # Errors
    /// [`crate::Error::RateLimited`] when the budget does not suffice for all calls, with the time until it
    /// can. [`crate::Error::UnknownTool`] for a tool that does not exist. [`crate::Error::InvalidRequest`]
    /// for more calls or limits than one reservation may have, and [`crate::Error::LimitsUnavailable`] when
    /// the shared store does not answer. Nothing is charged then.
    fn reserve<'a>(
        &'a self,
        ctx: &'a CallContext,
        calls: &'a [PlannedCall],
    ) -> GatewayFuture<'a, Reservation>;

    /// Says what these calls are charged, limit by limit: at least, where that depends on arguments that are not known.
    /// Charges nothing. Calls of virtual tools may be among them.
    ///
    /// # Errors
    /// As [`Self::reserve`], except for a refusal by a limit.
    fn needs<'a>(
        &'a self,
        ctx: &'a CallContext,
        calls: &'a [PlannedCall],
    ) -> GatewayFuture<'a, Vec<BudgetNeed>>;

    /// Refunds a call of the reservation that will not be made. Without it, the call is refunded when the reservation
    /// is dropped.
    fn release<'a>(
        &'a self,
        ctx: &'a CallContext,
        reservation: &'a Reservation,
        call: &'a PlannedCall,
    ) -> BoxFuture<'a, ()>;
}
