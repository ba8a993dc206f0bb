//! The effective rate limits, without secrets.

use serde_json::{Value, json};
use vmcp_edge::policy::EdgePolicy;
use vmcp_identity::BearerPolicy;
use vmcp_ratelimit::OnStoreFailure;
use vmcp_ratelimit::policy::{
    Anonymous, CallPart, CallValue, CallerSelector, Concurrency, Consistency, LimitPolicy, LimitSize, Limits,
    ListHandling, MissingValue, Mode, Overflow, Override, Quota, ToolRule, ValueQuota, ValueSource,
    WaitBounds, Window,
};
use vmcp_wire::error_response::LimitShape;

use crate::duration::format;
use crate::settings::{LimitSettings, RedisSettings, RedisTarget};

/// The section `rateLimiting`, or `null` without limits.
pub(super) fn show(settings: Option<&LimitSettings>, edge: &EdgePolicy<BearerPolicy>) -> Value {
    let Some(LimitSettings { policy, redis, on_failure }) = settings else { return Value::Null };
    let LimitPolicy {
        server,
        tools,
        methods,
        anonymous,
        memory,
        waiting,
        consistency,
        remaining_hints: hints,
        refund_on,
        // Set from `incomingAuth.authz`, so it is no setting of this section.
        group_claims: _,
    } = policy;
    let WaitBounds { count_max, per_user_count_max } = waiting;
    json!({
        "server": show_limits(server),
        "tools": tools.iter().map(show_rule).collect::<Value>(),
        "methods": methods.iter().map(|rule| (rule.method.as_str().to_owned(), show_limits(&rule.limits))).collect::<Value>(),
        "anonymous": match anonymous {
            Anonymous::Shared => "shared",
            Anonymous::Address => "address",
            Anonymous::Refuse => "refuse",
        },
        "store": if redis.is_some() { "redis" } else { "memory" },
        "memory": json!({
            "maxUsers": memory.user_count_max,
            "overflow": match memory.overflow {
                Overflow::Share => "share",
                Overflow::Refuse => "refuse",
            },
        }),
        "waiting": {"maxCalls": count_max, "maxPerUser": per_user_count_max},
        "consistency": match consistency {
            Consistency::Exact => "exact",
            Consistency::Lease(_) => "lease",
            Consistency::Split(_) => "split",
        },
        "lease": consistency.lease_policy().map(|lease| {
            json!({"duration": format(lease.duration), "holdBack": lease.hold_back})
        }),
        "refundOn": refund_on.iter().map(|refund| refund.as_str()).collect::<Vec<_>>(),
        "hints": {"belowPercent": hints.below_percent, "resource": hints.resource},
        "redis": redis.as_ref().map(show_redis),
        "concurrencyLease": redis.as_ref().map(|redis| format(redis.slot_lease)),
        "onStoreFailure": redis.as_ref().map(|_| match on_failure {
            OnStoreFailure::Local => "local",
            OnStoreFailure::Allow => "allow",
            OnStoreFailure::Deny => "deny",
        }),
        "answer": match edge.limit_answer.shape {
            LimitShape::Auto => "auto",
            LimitShape::ToolError => "toolError",
            LimitShape::JsonRpcError => "jsonRpcError",
            LimitShape::Http429 => "http429",
        },
        "code": edge.limit_answer.code,
    })
}

fn show_rule(rule: &ToolRule) -> Value {
    let ToolRule { name, annotation: hint, group, limits: own_limits, cost } = rule;
    let mut shown = show_limits(own_limits);
    shown["name"] = name.as_str().into();
    if let Some(hint) = hint {
        shown["annotation"] = hint.as_str().into();
    }
    shown["group"] = (*group).into();
    shown["cost"] =
        cost.price.as_ref().map_or_else(|| cost.minimum.get().into(), |price| price.to_string().into());
    if let Some(settle) = &cost.settle {
        shown["settle"] = settle.to_string().into();
    }
    shown
}

fn show_limits(limits: &Limits) -> Value {
    let Limits { shared, unreserved, per_user, per_value, concurrency, wait_max } = limits;
    let Concurrency { shared: all, per_user: each, mode: concurrency_mode } = concurrency;
    let mut shown = json!({
        "shared": shared.as_ref().map(show_quota),
        "perUser": per_user.as_ref().map(show_quota),
        "maxWait": format(*wait_max),
    });
    if let Some(unreserved) = unreserved {
        shown["unreserved"] = show_quota(unreserved);
    }
    let quotas_of_kind = |of_claims: bool| {
        per_value.iter().filter(move |limit| matches!(limit.source, ValueSource::Claim(_)) == of_claims)
    };
    for (key, of_claims) in [("perClaim", true), ("perValue", false)] {
        if quotas_of_kind(of_claims).next().is_some() {
            shown[key] = quotas_of_kind(of_claims).map(show_value_quota).collect();
        }
    }
    if all.is_some() || each.is_some() {
        shown["concurrency"] = json!({
            "shared": all.map(std::num::NonZeroU32::get),
            "perUser": each.map(std::num::NonZeroU32::get),
            "mode": mode_name(*concurrency_mode),
        });
    }
    shown
}

fn show_quota(quota: &Quota) -> Value {
    let mut shown = json!({"windows": quota.windows.iter().map(show_window).collect::<Value>(), "mode": mode_name(quota.mode)});
    if let Some(percent) = quota.percent {
        shown["enforcePercent"] = percent.get().into();
    }
    if !quota.overrides.is_empty() {
        shown["overrides"] = quota.overrides.iter().map(show_override).collect();
    }
    shown
}

fn show_override(one: &Override) -> Value {
    let Override { selector: who, size } = one;
    let mut shown = match who {
        CallerSelector::Subject { subject, issuer: None } => json!({"subject": **subject}),
        CallerSelector::Subject { subject, issuer: Some(issuer) } => {
            json!({"subject": **subject, "issuer": **issuer})
        }
        CallerSelector::Group(group) => json!({"group": **group}),
        CallerSelector::Claim { claim, value } => {
            json!({"claim": **claim, "value": value.as_deref().unwrap_or("*")})
        }
        CallerSelector::Others => json!({"subject": "*"}),
    };
    match size {
        LimitSize::Windows(windows) => shown["windows"] = windows.iter().map(show_window).collect(),
        LimitSize::Blocked => shown["maxTokens"] = 0.into(),
        LimitSize::Unlimited => shown["unlimited"] = true.into(),
    }
    shown
}

fn show_value_quota(limit: &ValueQuota) -> Value {
    let ValueQuota { source: of, missing, list_handling: lists, quota: own_limits } = limit;
    let mut shown = show_quota(own_limits);
    let ValueSource::Call(CallValue { part, listed, ignore_case }) = of else {
        shown["claim"] = of.name().into();
        shown["missing"] = match missing {
            MissingValue::Refuse => "refuse",
            MissingValue::Shared => "shared",
        }
        .into();
        shown["lists"] = match lists {
            ListHandling::Missing => "missing",
            ListHandling::Each => "each",
            ListHandling::Largest => "largest",
        }
        .into();
        return shown;
    };
    let key = match part {
        CallPart::Argument(_) => "argument",
        CallPart::Header(_) => "header",
    };
    shown[key] = of.name().into();
    shown["ignoreCase"] = (*ignore_case).into();
    if let Some(listed) = listed {
        shown["values"] = listed.iter().map(|text| &**text).collect();
    }
    shown
}

fn show_window(window: &Window) -> Value {
    let Window { rate, calendar } = window;
    let (tokens, period) = rate.configured();
    if let Some(calendar) = calendar {
        let (per, zone) = (calendar.unit().as_str(), calendar.zone());
        return json!({"quota": {"calls": tokens, "per": per, "timeZone": zone, "resetsAt": calendar.resets_at()}});
    }
    let mut shown = json!({"maxTokens": tokens, "refillPeriod": format(period)});
    if rate.burst() != tokens {
        shown["burst"] = rate.burst().into();
    }
    shown
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
}

fn show_redis(redis: &RedisSettings) -> Value {
    let RedisSettings {
        target,
        username,
        password,
        ca_bundle,
        key_prefix,
        namespace,
        deadline,
        replica_count,
        slot_lease: _,
        policy: _,
    } = redis;
    json!({
        "target": match target {
            RedisTarget::Single { url } => json!({"url": redact_credentials(url)}),
            RedisTarget::Cluster { urls } => json!({"cluster": urls.iter().map(|url| redact_credentials(url)).collect::<Vec<_>>()}),
            RedisTarget::Sentinel { urls, master } => {
                json!({"sentinels": urls.iter().map(|url| redact_credentials(url)).collect::<Vec<_>>(), "master": master})
            }
        },
        "username": username,
        "password": password.as_ref().map(|_| "[redacted]"),
        "caBundlePath": ca_bundle.as_ref().map(|path| path.to_string_lossy().into_owned()),
        "keyPrefix": key_prefix,
        "namespace": namespace,
        "deadline": format(*deadline),
        "replicas": replica_count,
    })
}

/// The URL without user and password.
fn redact_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://[redacted]@{rest}"),
        _ => url.to_owned(),
    }
}
