//! Whether a tool can be used now, for layers that advise before a call is made. Advice only: what is true when the
//! call comes is decided then.

use crate::context::CallContext;
use crate::gateway::BoxFuture;
use crate::item::Tool;
use crate::limit::RateLimit;

/// What a call of a tool would meet now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Nothing is known that speaks against it.
    Available,
    /// A limit would refuse it.
    RateLimited(Box<RateLimit>),
    /// Its backend cannot be reached.
    Unavailable,
}

/// Says what calls would meet. Spends nothing and reaches no backend.
pub trait AvailabilityCheck: Send + Sync {
    /// What a call of each of `tools` would meet, in their order. Whatever cannot be found out quickly is
    /// [`Availability::Available`]; the answer has as many elements as `tools`.
    fn check_availability<'a>(
        &'a self,
        ctx: &'a CallContext,
        tools: &'a [Tool],
    ) -> BoxFuture<'a, Vec<Availability>>;
}
