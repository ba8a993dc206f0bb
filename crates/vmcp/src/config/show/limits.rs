//! The effective rate limits, secrets left out.

use serde_json::{Value, json};
use vmcp_edge::policy::EdgePolicy;
use vmcp_ratelimit::OnStoreFailure;
use vmcp_ratelimit::policy::{
    Anonymous, CallPart, CallValue, Concurrency, Consistency, LimitPolicy, Limits, Lists, MissingValue, Mode,
    Overflow, Override, Quota, Size, ToolRule, ValueOf, ValueQuota, WaitBounds, Who, Window,
};
use vmcp_wire::fault::LimitShape;

use crate::config::duration::format;
use crate::config::settings::{LimitSettings, RedisSettings, RedisTarget};

/// The section, or `null` without limits.
pub(super) fn show(settings: Option<&LimitSettings>, edge: &EdgePolicy) -> Value {
    let Some(LimitSettings { policy, redis, on_failure }) = settings else { return Value::Null };
    let LimitPolicy {
        server,
        tools,
        methods,
        anonymous,
        memory,
        waiting,
        consistency,
        hints,
        refund_on,
        // As `incomingAuth.authz` shows it.
        group_claims: _,
    } = policy;
    let WaitBounds { count_max, per_user_count_max } = waiting;
    json!({
        "server": limits(server),
        "tools": tools.iter().map(rule).collect::<Value>(),
        "methods": methods.iter().map(|rule| (rule.method.as_str().to_owned(), limits(&rule.limits))).collect::<Value>(),
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
        "lease": consistency.leases().map(|lease| {
            json!({"duration": format(lease.duration), "holdBack": lease.hold_back})
        }),
        "refundOn": refund_on.iter().map(|refund| refund.as_str()).collect::<Vec<_>>(),
        "hints": {"belowPercent": hints.below_percent, "resource": hints.resource},
        "redis": redis.as_ref().map(store),
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

fn rule(rule: &ToolRule) -> Value {
    let ToolRule { name, hint, group, limits: own, cost } = rule;
    let mut shown = limits(own);
    shown["name"] = name.as_str().into();
    if let Some(hint) = hint {
        shown["annotation"] = hint.as_str().into();
    }
    shown["group"] = (*group).into();
    shown["cost"] =
        cost.price.as_ref().map_or_else(|| cost.least.get().into(), |price| price.to_string().into());
    if let Some(settle) = &cost.settle {
        shown["settle"] = settle.to_string().into();
    }
    shown
}

fn limits(limits: &Limits) -> Value {
    let Limits { shared, unreserved, per_user, per_value, concurrency, wait_max } = limits;
    let Concurrency { shared: all, per_user: each, mode: how } = concurrency;
    let mut shown = json!({
        "shared": shared.as_ref().map(quota),
        "perUser": per_user.as_ref().map(quota),
        "maxWait": format(*wait_max),
    });
    if let Some(unreserved) = unreserved {
        shown["unreserved"] = quota(unreserved);
    }
    let kept = |of_claims: bool| {
        per_value.iter().filter(move |limit| matches!(limit.of, ValueOf::Claim(_)) == of_claims)
    };
    for (key, of_claims) in [("perClaim", true), ("perValue", false)] {
        if kept(of_claims).next().is_some() {
            shown[key] = kept(of_claims).map(value).collect();
        }
    }
    if all.is_some() || each.is_some() {
        shown["concurrency"] = json!({
            "shared": all.map(std::num::NonZeroU32::get),
            "perUser": each.map(std::num::NonZeroU32::get),
            "mode": mode(*how),
        });
    }
    shown
}

fn quota(quota: &Quota) -> Value {
    let mut shown =
        json!({"windows": quota.windows.iter().map(window).collect::<Value>(), "mode": mode(quota.mode)});
    if let Some(percent) = quota.percent {
        shown["enforcePercent"] = percent.get().into();
    }
    if !quota.overrides.is_empty() {
        shown["overrides"] = quota.overrides.iter().map(overridden).collect();
    }
    shown
}

fn overridden(one: &Override) -> Value {
    let Override { who, size } = one;
    let mut shown = match who {
        Who::Subject { subject, issuer: None } => json!({"subject": **subject}),
        Who::Subject { subject, issuer: Some(issuer) } => json!({"subject": **subject, "issuer": **issuer}),
        Who::Group(group) => json!({"group": **group}),
        Who::Claim { claim, value } => json!({"claim": **claim, "value": value.as_deref().unwrap_or("*")}),
        Who::Rest => json!({"subject": "*"}),
    };
    match size {
        Size::Windows(windows) => shown["windows"] = windows.iter().map(window).collect(),
        Size::Blocked => shown["maxTokens"] = 0.into(),
        Size::Unlimited => shown["unlimited"] = true.into(),
    }
    shown
}

fn value(limit: &ValueQuota) -> Value {
    let ValueQuota { of, missing, lists, quota: own } = limit;
    let mut shown = quota(own);
    let ValueOf::Call(CallValue { part, listed, ignore_case }) = of else {
        shown["claim"] = of.name().into();
        shown["missing"] = match missing {
            MissingValue::Refuse => "refuse",
            MissingValue::Shared => "shared",
        }
        .into();
        shown["lists"] = match lists {
            Lists::Missing => "missing",
            Lists::Each => "each",
            Lists::Largest => "largest",
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

fn window(window: &Window) -> Value {
    let Window { rate, calendar } = window;
    let (tokens, period) = rate.asked();
    if let Some(calendar) = calendar {
        let (per, zone) = (calendar.per().as_str(), calendar.zone());
        return json!({"quota": {"calls": tokens, "per": per, "timeZone": zone, "resetsAt": calendar.resets_at()}});
    }
    let mut shown = json!({"maxTokens": tokens, "refillPeriod": format(period)});
    if rate.burst() != tokens {
        shown["burst"] = rate.burst().into();
    }
    shown
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
}

fn store(redis: &RedisSettings) -> Value {
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
            RedisTarget::Single { url } => json!({"url": bare(url)}),
            RedisTarget::Cluster { urls } => json!({"cluster": urls.iter().map(|url| bare(url)).collect::<Vec<_>>()}),
            RedisTarget::Sentinel { urls, master } => {
                json!({"sentinels": urls.iter().map(|url| bare(url)).collect::<Vec<_>>(), "master": master})
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

/// A URL without user and password.
fn bare(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://[redacted]@{rest}"),
        _ => url.to_owned(),
    }
}
