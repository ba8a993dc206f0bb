//! `tools` and `byAnnotation`: limits on tools by their names, and by what their annotations let one assume.

use std::num::NonZeroU32;
use std::time::Duration;

use vmcp_ratelimit::policy::{Hint, Limits, ToolRule};
use vmcp_ratelimit::{Pattern, Rate};

use super::{PATH, quota, slots, waiting};
use crate::config::convert::Findings;
use crate::config::file::{AnnotationRateLimit, AnnotationRateLimits, LimitMode, ToolRateLimit};
use crate::config::report::item;

/// What holds for every rule that does not say otherwise: the mode, and how long a call waits.
type Defaults = (LimitMode, Duration);

/// All rules.
pub(super) fn convert(
    tools: Vec<ToolRateLimit>,
    by_annotation: Option<AnnotationRateLimits>,
    defaults: Defaults,
    findings: &mut Findings<'_>,
) -> Vec<ToolRule> {
    let mut names = std::collections::HashSet::new();
    let mut rules = Vec::new();
    for (index, tool) in tools.into_iter().enumerate() {
        let path = item(&format!("{PATH}.tools"), index);
        if tool.name.trim().is_empty() {
            findings.problem(format!("{path}.name"), "must not be empty");
        }
        if !names.insert(tool.name.clone()) {
            findings.problem(format!("{path}.name"), format!("`{}` has a rule already", tool.name)).hint =
                Some("put both limits into one rule".to_owned());
        }
        if tool.group == Some(true) && !tool.name.contains('*') {
            findings.warn(format!("{path}.group"), "has no effect on a rule for one tool");
        }
        rules.push(rule(tool, None, &path, defaults, findings));
    }
    let AnnotationRateLimits { writes, destructive, open_world } = by_annotation.unwrap_or_default();
    let hints = [(Hint::Writes, writes), (Hint::Destructive, destructive), (Hint::OpenWorld, open_world)];
    for (hint, limit) in hints {
        let Some(AnnotationRateLimit { group, shared, per_user, cost, concurrency, mode, max_wait }) = limit
        else {
            continue;
        };
        let path = format!("{PATH}.byAnnotation.{}", hint.as_str());
        let name = "*".to_owned();
        let tool = ToolRateLimit { name, group, shared, per_user, cost, concurrency, mode, max_wait };
        rules.push(rule(tool, Some(hint), &path, defaults, findings));
    }
    rules
}

fn rule(
    file: ToolRateLimit,
    hint: Option<Hint>,
    path: &str,
    (mode, wait_max): Defaults,
    findings: &mut Findings<'_>,
) -> ToolRule {
    let ToolRateLimit { name, group, shared, per_user, cost, concurrency, mode: own, max_wait } = file;
    let mode = own.unwrap_or(mode);
    if shared.is_none() && per_user.is_none() && concurrency.is_none() {
        findings.problem(path, "limits nothing").hint =
            Some("write `shared`, `perUser` or `concurrency`".to_owned());
    }
    if cost == Some(0) {
        findings.problem(format!("{path}.cost"), "must be at least 1");
    }
    let rule = ToolRule {
        limits: Limits {
            shared: quota(shared, &format!("{path}.shared"), mode, findings),
            per_user: quota(per_user, &format!("{path}.perUser"), mode, findings),
            concurrency: slots::bounds(concurrency, &format!("{path}.concurrency"), mode, findings),
            wait_max: waiting::longest(max_wait, path, findings).unwrap_or(wait_max),
        },
        name: Pattern::new(name),
        hint,
        group: group == Some(true),
        cost: cost.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
    };
    check_cost(&rule, path, findings);
    waiting::check_rule(&rule, path, max_wait.is_some(), findings);
    rule
}

/// A price that a rule's own bucket can never pay would refuse every call.
fn check_cost(rule: &ToolRule, path: &str, findings: &mut Findings<'_>) {
    let windows =
        [&rule.limits.shared, &rule.limits.per_user].into_iter().flatten().flat_map(|quota| &quota.windows);
    let smallest = windows.map(Rate::burst).min().unwrap_or(u64::MAX);
    if u64::from(rule.cost.get()) > smallest {
        let message =
            format!("one call costs {} but the bucket holds {smallest}, so no call could pass", rule.cost);
        findings.problem(format!("{path}.cost"), message);
    }
}
