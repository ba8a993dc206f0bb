//! The stack, spelled once, from inside to outside. A test pins the order.

use std::sync::Arc;

use vmcp_domain::SharedGateway;
use vmcp_federation::policy::AggregationPolicy;
use vmcp_federation::{Exposed, Federation};
use vmcp_ratelimit::{Limiter, RateLimited};

use crate::metrics::Metrics;
use crate::observe::Observed;

/// The layers from inside to outside, by the names `/status` uses.
pub(crate) const LAYERS: [&str; 4] = ["federation", "ratelimit", "exposure", "observe"];

/// Builds the stack over a federation. A layer that has nothing to do is left out.
pub(crate) fn build(
    federation: Federation,
    policy: AggregationPolicy,
    limiter: Option<Arc<Limiter>>,
    metrics: Arc<Metrics>,
) -> SharedGateway {
    // Innermost: resolves the advertised name to a backend and its own name for the tool, and calls it.
    let gateway: SharedGateway = Arc::new(federation);
    // Right above: every road to a backend leads through here, so every real call is charged once, by the tool that
    // runs and the caller who asks, whatever layer above composed it.
    let gateway = match limiter {
        Some(limiter) => RateLimited::wrap(gateway, limiter),
        None => gateway,
    };
    // Above federation, so that the operator's own workflows below it may use tools hidden from clients.
    let gateway = Exposed::wrap(gateway, Arc::new(policy));
    // Outermost: sees each request as the client made it, whatever became of it inside.
    Observed::wrap(gateway, metrics)
}

#[cfg(test)]
mod tests {
    /// The order is a decision: whoever changes it changes this test with a reason.
    #[test]
    fn the_order_is_pinned() {
        // Without this test, which spells the names too.
        let (source, _) = include_str!("stack.rs").split_once("#[cfg(test)]").unwrap();
        let spelled = ["Arc::new(federation)", "RateLimited::wrap(", "Exposed::wrap(", "Observed::wrap("];
        let places: Vec<usize> = spelled.iter().map(|text| source.find(text).unwrap()).collect();
        assert!(places.is_sorted(), "the stack is spelled from inside to outside");
        assert_eq!(super::LAYERS, ["federation", "ratelimit", "exposure", "observe"]);
    }
}
