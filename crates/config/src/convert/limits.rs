//! Converts `rateLimiting` into the policy of the limiter. A limit that cannot be enforced exactly is
//! refused.

mod claims;
mod cost;
mod lease;
mod methods;
mod overrides;
mod quota;
mod redis;
mod reserved;
mod rules;
mod slots;
mod values;
mod waiting;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use vmcp_ratelimit::policy::{Anonymous, LimitPolicy, Limits, MemoryBounds, Overflow, RemainingHints};
use vmcp_ratelimit::{OnStoreFailure, RefundOn};
use vmcp_wire::error_response::LimitAnswer;

use super::Findings;
use crate::convert::answers;
use crate::file::{
    AnonymousUser, AnswerForm, ClaimRateLimit, ConcurrencyLimit, IncomingAuth, IncomingKind, LimitHints,
    LimitMemory, LimitMode, LimitRedis, LimitStore, RateLimitBucket, RateLimiting, RefundFailure,
    SessionStorage, StorageProvider, StoreFailurePolicy, UserOverflow, ValueRateLimit,
};
use crate::settings::LimitSettings;
use quota::{per_user_quota, shared_quota};

const PATH: &str = "rateLimiting";

/// The facts about callers that are known from the configuration.
pub(super) struct KnownCallers {
    are_anonymous: bool,
    /// The claim that holds groups by `authz.groupClaimName`; the limiter reads its default claims after it.
    group_claims: Vec<Arc<str>>,
    /// The names of the configured API keys.
    api_keys: Vec<String>,
    /// The client headers that the gateway passes on. A limit can count by these only.
    headers: Vec<String>,
}

impl KnownCallers {
    /// The facts about the callers that `incoming` admits; `headers` is `passthroughHeaders`.
    pub(super) fn of(incoming: Option<&IncomingAuth>, headers: &[String]) -> Self {
        let group_claim = incoming.and_then(|auth| auth.authz.as_ref()?.group_claim_name.as_deref());
        Self {
            are_anonymous: incoming.is_none_or(|auth| auth.kind == IncomingKind::Anonymous),
            group_claims: group_claim.filter(|claim| !claim.is_empty()).map(Arc::from).into_iter().collect(),
            api_keys: incoming
                .map(|auth| auth.api_keys.iter().map(|key| key.name.clone()).collect())
                .unwrap_or_default(),
            headers: headers.to_vec(),
        }
    }
}

/// What other sections say that matters to limits.
pub(super) struct Others<'a> {
    /// The name of the server, which is part of keys in Redis.
    pub(super) name: &'a str,
    pub(super) session: Option<&'a SessionStorage>,
    pub(super) callers: KnownCallers,
    /// The form of answers to other failures.
    pub(super) answer: Option<AnswerForm>,
}

/// The settings of the limiter, and the form of its refusals.
pub(super) fn convert(
    file: RateLimiting,
    others: Others<'_>,
    findings: &mut Findings<'_>,
) -> (LimitSettings, LimitAnswer) {
    let Others { name: server_name, session, callers, answer: other_answers } = others;
    if has_no_limits(&file) {
        report_no_limits(findings);
    }
    let RateLimiting {
        shared,
        per_user,
        per_claim,
        per_value,
        tools,
        by_annotation,
        methods,
        concurrency,
        concurrency_lease,
        mode,
        max_wait,
        waiting,
        anonymous,
        store,
        memory,
        redis: redis_file,
        consistency,
        lease: lease_file,
        on_store_failure,
        refund_on,
        hints,
        answer,
        code,
    } = file;
    let mode = mode.unwrap_or(LimitMode::Enforce);
    let wait_max = waiting::convert_max_wait(max_wait, PATH, findings);
    let written = WrittenLimits { shared, per_user, per_claim, per_value, concurrency };
    let server = written.convert(PATH, (mode, wait_max.unwrap_or_default()), findings);
    let defaults = rules::Defaults { mode, wait_max: server.wait_max, server: &server };
    let tools = rules::convert(tools, by_annotation, defaults, findings);
    let methods = methods::convert(methods.unwrap_or_default(), defaults, findings);
    let store_kind = choose_store(store, session, redis_file.as_ref());
    let policy = LimitPolicy {
        server,
        tools,
        methods,
        anonymous: convert_anonymous(anonymous),
        memory: convert_memory(memory.unwrap_or_default(), findings),
        waiting: waiting::convert_bounds(waiting.unwrap_or_default(), findings),
        remaining_hints: convert_hints(hints.unwrap_or_default(), findings),
        consistency: lease::consistency(consistency, lease_file, store_kind == LimitStore::Redis, findings),
        refund_on: refund_on.into_iter().map(convert_refund).collect(),
        group_claims: callers.group_claims.clone(),
    };
    warn_if_off(mode, &policy, findings);
    lease::check(&policy, findings);
    waiting::check(&policy, max_wait.is_some(), waiting.is_some(), findings);
    check_callers(&policy, anonymous.is_some(), &callers, findings);
    let mut redis = match store_kind {
        LimitStore::Memory => {
            warn_of_unused_store_keys(on_store_failure.is_some(), redis_file.is_some(), findings);
            None
        }
        LimitStore::Redis => {
            Some(redis::convert_redis(redis_file.unwrap_or_default(), session, server_name, findings))
        }
    };
    slots::apply_slot_lease(concurrency_lease, &policy, redis.as_mut(), findings);
    let settings = LimitSettings { policy, redis, on_failure: convert_store_failure(on_store_failure) };
    (settings, answers::for_limits(answer, code, other_answers, findings))
}

/// The limits of one rule as they are in the file.
struct WrittenLimits {
    shared: Option<RateLimitBucket>,
    per_user: Option<RateLimitBucket>,
    per_claim: Vec<ClaimRateLimit>,
    per_value: Vec<ValueRateLimit>,
    concurrency: Option<ConcurrencyLimit>,
}

impl WrittenLimits {
    /// Converts the limits of the rule at `path`.
    fn convert(
        self,
        path: &str,
        (mode, wait_max): (LimitMode, Duration),
        findings: &mut Findings<'_>,
    ) -> Limits {
        let Self { shared, per_user, per_claim, per_value, concurrency } = self;
        let (shared, unreserved) = shared_quota(shared, &format!("{path}.shared"), mode, findings);
        let per_user = per_user_quota(per_user, &format!("{path}.perUser"), mode, findings);
        let mut values = claims::convert(per_claim, path, mode, findings);
        values.extend(values::convert(per_value, path, mode, findings));
        let concurrency =
            slots::convert_concurrency(concurrency, &format!("{path}.concurrency"), mode, findings);
        Limits { shared, unreserved, per_user, per_value: values, concurrency, wait_max }
    }
}

/// Warns about keys of a shared store that have no effect because limits are kept in memory.
fn warn_of_unused_store_keys(on_store_failure: bool, redis: bool, findings: &mut Findings<'_>) {
    for (_, key) in
        [(on_store_failure, "onStoreFailure"), (redis, "redis")].iter().filter(|(written, _)| *written)
    {
        findings.add_warning(format!("{PATH}.{key}"), "has no effect with the memory store");
    }
}

fn convert_refund(failure: RefundFailure) -> RefundOn {
    match failure {
        RefundFailure::Busy => RefundOn::Busy,
        RefundFailure::Unauthorized => RefundOn::Unauthorized,
        RefundFailure::Failed => RefundOn::Failed,
        RefundFailure::TimedOut => RefundOn::TimedOut,
    }
}

/// True if the section has no limit. Its other keys do not count.
fn has_no_limits(file: &RateLimiting) -> bool {
    let RateLimiting { shared, per_user, per_claim, per_value, tools, by_annotation, methods, .. } = file;
    let has_buckets = shared.is_some() || per_user.is_some();
    let has_values = !per_claim.is_empty() || !per_value.is_empty();
    let has_rules = !tools.is_empty() || by_annotation.is_some() || methods.is_some();
    !has_buckets && !has_values && !has_rules && file.concurrency.is_none()
}

fn report_no_limits(findings: &mut Findings<'_>) {
    findings.add_problem(PATH, "limits nothing").hint = Some(
        "write `shared`, `perUser`, `perClaim`, `perValue`, `tools`, `methods` or `concurrency`, or remove the section"
            .to_owned(),
    );
}

/// Warns if all limits are off, because a limit that is off is the same as none.
fn warn_if_off(mode: LimitMode, policy: &LimitPolicy, findings: &mut Findings<'_>) {
    if mode == LimitMode::Off && policy.limits().all(Limits::is_empty) {
        findings.add_warning(format!("{PATH}.mode"), "is off, and nothing is limited");
    }
}

/// Checks limits that need to distinguish callers: they are a problem if no caller has an identity. Also runs
/// the checks of `overrides` and `perValue`.
fn check_callers(
    policy: &LimitPolicy,
    has_anonymous_key: bool,
    callers: &KnownCallers,
    findings: &mut Findings<'_>,
) {
    overrides::check(policy, callers, findings);
    values::check(policy, callers, findings);
    if !callers.are_anonymous {
        return;
    }
    if policy.has_per_user() && !has_anonymous_key {
        findings.add_problem(format!("{PATH}.perUser"), "limits each user, but no caller has an identity").hint = Some(
            "say with `rateLimiting.anonymous` whether all callers are one user (`shared`), each address is one \
             (`address`) or they are refused (`refuse`)"
                .to_owned(),
        );
    }
    if policy.limits().any(|limits| limits.unreserved.is_some()) {
        let text = "keeps a part of a bucket for some callers with `reserved`, but no caller has an identity";
        findings.add_problem(PATH, text).hint =
            Some("let callers authenticate, or remove `reserved`".to_owned());
    }
    claims::check_anonymous(policy, findings);
}

/// The treatment of callers without identity by limits per user. Left out, they are refused; `check_callers`
/// reports a missing decision if no caller has an identity.
fn convert_anonymous(anonymous: Option<AnonymousUser>) -> Anonymous {
    match anonymous {
        Some(AnonymousUser::Shared) => Anonymous::Shared,
        Some(AnonymousUser::Address) => Anonymous::Address,
        Some(AnonymousUser::Refuse) | None => Anonymous::Refuse,
    }
}

fn convert_store_failure(policy: Option<StoreFailurePolicy>) -> OnStoreFailure {
    match policy {
        Some(StoreFailurePolicy::Local) | None => OnStoreFailure::Local,
        Some(StoreFailurePolicy::Allow) => OnStoreFailure::Allow,
        Some(StoreFailurePolicy::Deny) => OnStoreFailure::Deny,
    }
}

/// Redis if `store` or `redis` asks for it, or if sessions are kept there, as in ToolHive; else memory.
fn choose_store(
    store: Option<LimitStore>,
    session: Option<&SessionStorage>,
    redis: Option<&LimitRedis>,
) -> LimitStore {
    let sessions = session.is_some_and(|session| session.provider == StorageProvider::Redis);
    match store {
        Some(store) => store,
        None if sessions || redis.is_some() => LimitStore::Redis,
        None => LimitStore::Memory,
    }
}

/// When results and the resource `vmcp://limits` report what is left.
fn convert_hints(file: LimitHints, findings: &mut Findings<'_>) -> RemainingHints {
    let LimitHints { below_percent, resource } = file;
    let default = RemainingHints::default();
    if below_percent.is_some_and(|percent| percent > 100) {
        findings.add_problem(format!("{PATH}.hints.belowPercent"), "must be from 0 to 100");
    }
    RemainingHints {
        below_percent: below_percent.unwrap_or(default.below_percent).min(100),
        resource: resource.unwrap_or(default.resource),
    }
}

fn convert_memory(file: LimitMemory, findings: &mut Findings<'_>) -> MemoryBounds {
    let LimitMemory { max_users, overflow } = file;
    if max_users == Some(0) {
        findings.add_problem(format!("{PATH}.memory.maxUsers"), "must be at least 1");
    }
    let default = MemoryBounds::default();
    MemoryBounds {
        user_count_max: max_users
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(default.user_count_max),
        overflow: match overflow {
            Some(UserOverflow::Share) | None => Overflow::Share,
            Some(UserOverflow::Refuse) => Overflow::Refuse,
        },
    }
}
