//! Converts `tools` and `byAnnotation`: limits on tools by their names and by their annotations.

use std::time::Duration;

use vmcp_domain::NamePattern;
use vmcp_ratelimit::policy::{Limits, ToolAnnotation, ToolRule};

use super::{PATH, WrittenLimits, cost, waiting};
use crate::convert::Findings;
use crate::file::{AnnotationRateLimit, AnnotationRateLimits, LimitMode, ToolRateLimit};
use crate::report::item_path;

/// The defaults for rules that leave a key out, and the limits that rules share.
#[derive(Clone, Copy)]
pub(super) struct Defaults<'a> {
    pub(super) mode: LimitMode,
    /// The default of `maxWait`: how long a call waits.
    pub(super) wait_max: Duration,
    /// The limits on all calls. A rule's cost counts in their buckets, too.
    pub(super) server: &'a Limits,
}

/// The rules of `tools`, then those of `byAnnotation`.
pub(super) fn convert(
    tools: Vec<ToolRateLimit>,
    by_annotation: Option<AnnotationRateLimits>,
    defaults: Defaults<'_>,
    findings: &mut Findings<'_>,
) -> Vec<ToolRule> {
    let mut names = std::collections::HashSet::new();
    let mut rules = Vec::new();
    for (index, tool) in tools.into_iter().enumerate() {
        let path = item_path(&format!("{PATH}.tools"), index);
        if tool.name.trim().is_empty() {
            findings.add_problem(format!("{path}.name"), "must not be empty");
        }
        if !names.insert(tool.name.clone()) {
            findings
                .add_problem(format!("{path}.name"), format!("`{}` has a rule already", tool.name))
                .hint = Some("put both limits into one rule".to_owned());
        }
        check_name(&tool.name, &path, findings);
        if tool.group == Some(true) && !tool.name.contains('*') {
            findings.add_warning(format!("{path}.group"), "has no effect on a rule for one tool");
        }
        rules.extend(rule(tool, None, &path, defaults, findings));
    }
    let AnnotationRateLimits { writes, destructive, open_world } = by_annotation.unwrap_or_default();
    let hints = [
        (ToolAnnotation::Writes, writes),
        (ToolAnnotation::Destructive, destructive),
        (ToolAnnotation::OpenWorld, open_world),
    ];
    for (hint, limit) in hints {
        let Some(limit) = limit else { continue };
        let AnnotationRateLimit {
            group,
            shared,
            per_user,
            per_claim,
            per_value,
            cost,
            settle,
            settle_max,
            concurrency,
            mode,
            max_wait,
        } = limit;
        let path = format!("{PATH}.byAnnotation.{}", hint.as_str());
        let name = "*".to_owned();
        let tool = ToolRateLimit {
            name,
            group,
            shared,
            per_user,
            per_claim,
            per_value,
            cost,
            settle,
            settle_max,
            concurrency,
            mode,
            max_wait,
        };
        rules.extend(rule(tool, Some(hint), &path, defaults, findings));
    }
    rules
}

/// One rule; `None` for a rule that is off, which is the same as no rule.
fn rule(
    file: ToolRateLimit,
    hint: Option<ToolAnnotation>,
    path: &str,
    Defaults { mode, wait_max, server }: Defaults<'_>,
    findings: &mut Findings<'_>,
) -> Option<ToolRule> {
    let ToolRateLimit {
        name,
        group,
        shared,
        per_user,
        per_claim,
        per_value,
        cost,
        settle,
        settle_max,
        concurrency,
        mode: own,
        max_wait,
    } = file;
    let mode = own.unwrap_or(mode);
    let limits_something =
        shared.is_some() || per_user.is_some() || !per_claim.is_empty() || concurrency.is_some();
    let limits_something = limits_something || !per_value.is_empty();
    // A rule without limits may still say how much calls cost in the buckets of other rules.
    if !limits_something && cost.is_none() && settle.is_none() {
        findings.add_problem(path, "limits nothing").hint =
            Some("write `shared`, `perUser`, `perClaim`, `perValue`, `concurrency` or `cost`".to_owned());
    }
    let written_limits = WrittenLimits { shared, per_user, per_claim, per_value, concurrency };
    let wait_max = waiting::convert_max_wait(max_wait, path, findings).unwrap_or(wait_max);
    let rule = ToolRule {
        limits: written_limits.convert(path, (mode, wait_max), findings),
        name: NamePattern::new(name),
        annotation: hint,
        group: group == Some(true),
        cost: cost::convert(cost, (settle, settle_max), path, mode, findings),
    };
    cost::check(&rule.cost, (&rule.limits, server), path, findings);
    waiting::check_rule(&rule.limits, path, max_wait.is_some(), findings);
    let limits_nothing = rule.limits.quotas().next().is_none() && !has_concurrency_limit(&rule.limits);
    (mode != LimitMode::Off || !limits_nothing).then_some(rule)
}

/// Warns about characters of other pattern languages (regular expressions, globs), which match only
/// themselves here.
fn check_name(name: &str, path: &str, findings: &mut Findings<'_>) {
    if let Some(pattern_char) = name.chars().find(|c| "^$?[](){}|+\\".contains(*c)) {
        let message = format!("`{pattern_char}` matches only itself here; only `*` matches other characters");
        findings.add_warning(format!("{path}.name"), message);
    }
}

fn has_concurrency_limit(limits: &Limits) -> bool {
    limits.concurrency.shared.is_some() || limits.concurrency.per_user.is_some()
}
