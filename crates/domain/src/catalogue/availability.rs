//! Predicts whether a tool can be called now, for layers that advise before a call. The prediction is not
//! binding: the call itself is decided when it is made.

use crate::catalogue::item::Tool;
use crate::future::BoxFuture;
use crate::limit::RateLimit;
use crate::request::context::CallContext;

/// The predicted outcome of calling a tool now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Nothing known would prevent the call.
    Available,
    /// A limit would refuse the call.
    RateLimited(Box<RateLimit>),
    /// The tool's backend is not reachable.
    Unavailable,
}

/// Predicts the outcome of calls. It spends no budget and contacts no backend.
pub trait AvailabilityCheck: Send + Sync {
    /// Predicts a call of each of `tools`. The result has one element per tool, in the same order. What
    /// cannot be determined quickly is [`Availability::Available`].
    fn check_availability<'a>(
        &'a self,
        ctx: &'a CallContext,
        tools: &'a [Tool],
    ) -> BoxFuture<'a, Vec<Availability>>;
}
