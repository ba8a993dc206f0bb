//! The state of the limiter, read when the page is requested.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use vmcp_ratelimit::LimiterStatus;

/// The gauges of the limiter.
#[derive(Default)]
pub(super) struct LimiterGauges {
    users: Gauge,
    users_max: Gauge,
    /// Has no series if no shared store is configured.
    store_up: Family<NoLabels, Gauge<i64, AtomicI64>>,
    replicas: Family<NoLabels, Gauge<i64, AtomicI64>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NoLabels {}

impl LimiterGauges {
    /// Adds the gauges to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("vmcp_rate_limit_users", "Users in the table now", self.users.clone());
        registry.register(
            "vmcp_rate_limit_users_max",
            "Users that can be told apart",
            self.users_max.clone(),
        );
        registry.register(
            "vmcp_rate_limit_store_up",
            "1 while the shared store answers, 0 while it does not",
            self.store_up.clone(),
        );
        registry.register(
            "vmcp_rate_limit_replicas",
            "Replicas that share the store, as far as this one knows",
            self.replicas.clone(),
        );
    }

    /// Sets the gauges from the current status.
    pub(super) fn set(&self, state: &LimiterStatus) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.users.set(number(state.user_count));
        self.users_max.set(number(state.user_count_max));
        if let Some(store) = state.store {
            self.store_up.get_or_create(&NoLabels {}).set(i64::from(store.is_available));
            self.replicas.get_or_create(&NoLabels {}).set(i64::from(store.replica_count));
        }
    }
}
