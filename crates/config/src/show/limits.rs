//! The values in effect of the section `rateLimiting`. The limits themselves are as they are written; `vmcp
//! limits explain` says what they mean.

use serde_json::{Value, json};
use vmcp_edge::policy::EdgePolicy;
use vmcp_identity::BearerPolicy;
use vmcp_ratelimit::OnStoreFailure;
use vmcp_ratelimit::policy::{Anonymous, Consistency, LimitPolicy, Limits, Overflow};

use crate::file::duration::format;
use crate::settings::{LimitSettings, RedisSettings};

/// The keys of the section that are not about single limits. A key that would have no effect is left out.
pub(super) fn values_in_effect(settings: &LimitSettings, edge: &EdgePolicy<BearerPolicy>) -> Value {
    let LimitSettings { policy, redis, on_failure } = settings;
    let memory = redis.is_none().then(|| {
        json!({
            "maxUsers": policy.memory.user_count_max,
            "overflow": match policy.memory.overflow {
                Overflow::Share => "share",
                Overflow::Refuse => "refuse",
            },
        })
    });
    json!({
        "anonymous": match policy.anonymous {
            Anonymous::Shared => "shared",
            Anonymous::Address => "address",
            Anonymous::Refuse => "refuse",
        },
        "store": if redis.is_some() { "redis" } else { "memory" },
        "memory": memory,
        "waiting": may_wait(policy).then(|| json!({
            "maxCalls": policy.waiting.count_max,
            "maxPerUser": policy.waiting.per_user_count_max,
        })),
        "redis": redis.as_ref().map(redis_values),
        "consistency": redis.as_ref().map(|_| match policy.consistency {
            Consistency::Exact => "exact",
            Consistency::Lease(_) => "lease",
            Consistency::Split(_) => "split",
        }),
        "lease": redis.as_ref().and_then(|_| policy.consistency.lease_policy()).map(|lease| {
            json!({"duration": format(lease.duration), "holdBack": lease.hold_back})
        }),
        "onStoreFailure": redis.as_ref().map(|_| match on_failure {
            OnStoreFailure::Local => "local",
            OnStoreFailure::Allow => "allow",
            OnStoreFailure::Deny => "deny",
        }),
        "hints": {
            "belowPercent": policy.remaining_hints.below_percent,
            "resource": policy.remaining_hints.resource,
        },
        "answer": super::answer_form(edge.answers.limit.shape),
        "code": edge.answers.limit.code,
    })
}

fn may_wait(policy: &LimitPolicy) -> bool {
    let rules = policy.tools.iter().map(|rule| &rule.limits);
    let methods = policy.methods.iter().map(|rule| &rule.limits);
    let mut all = std::iter::once(&policy.server).chain(rules).chain(methods);
    all.any(|limits: &Limits| !limits.wait_max.is_zero())
}

fn redis_values(redis: &RedisSettings) -> Value {
    json!({
        "keyPrefix": redis.key_prefix,
        "deadline": format(redis.deadline),
        "replicas": redis.replica_count,
    })
}
