//! Whether a tool can be used now, for layers that advise before a call is made. Advice only: what is true when the
//! call comes is decided then.

use crate::context::CallContext;
use crate::gateway::BoxFuture;
use crate::item::Tool;
use crate::limit::RateLimit;

/// What a call of a tool would meet now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// Nothing is known that speaks against it.
    Usable,
    /// A limit would refuse it.
    Limited(Box<RateLimit>),
    /// Its backend cannot be reached.
    Unavailable,
}

/// Says what calls would meet. Spends nothing and reaches no backend.
pub trait Foresight: Send + Sync {
    /// What a call of each of `tools` would meet, in their order. Whatever cannot be found out quickly is
    /// [`Prospect::Usable`]; the answer has as many elements as `tools`.
    fn prospects<'a>(&'a self, ctx: &'a CallContext, tools: &'a [Tool]) -> BoxFuture<'a, Vec<Prospect>>;
}
