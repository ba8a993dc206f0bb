//! Converts `methods`: limits on requests that are not tool calls.

use vmcp_ratelimit::policy::{Method, MethodRule};

use super::rules::Defaults;
use super::{PATH, WrittenLimits, waiting};
use crate::convert::Findings;
use crate::file::{MethodRateLimit, MethodRateLimits};

/// The rules of all methods that have one.
pub(super) fn convert(
    file: MethodRateLimits,
    defaults: Defaults<'_>,
    findings: &mut Findings<'_>,
) -> Vec<MethodRule> {
    let MethodRateLimits {
        list_tools,
        list_resources,
        list_templates,
        list_prompts,
        read_resource,
        get_prompt,
        complete,
        subscribe,
        listen,
    } = file;
    let rules = [
        (Method::ListTools, list_tools),
        (Method::ListResources, list_resources),
        (Method::ListTemplates, list_templates),
        (Method::ListPrompts, list_prompts),
        (Method::ReadResource, read_resource),
        (Method::GetPrompt, get_prompt),
        (Method::Complete, complete),
        (Method::Subscribe, subscribe),
        (Method::Listen, listen),
    ];
    let written = rules.into_iter().filter_map(|(method, file)| Some((method, file?)));
    written.map(|(method, file)| rule(method, file, defaults, findings)).collect()
}

fn rule(
    method: Method,
    file: MethodRateLimit,
    Defaults { mode, wait_max, server: _ }: Defaults<'_>,
    findings: &mut Findings<'_>,
) -> MethodRule {
    let path = format!("{PATH}.methods[\"{}\"]", method.as_str());
    let MethodRateLimit { shared, per_user, per_claim, concurrency, mode: own, max_wait } = file;
    let mode = own.unwrap_or(mode);
    if shared.is_none() && per_user.is_none() && per_claim.is_empty() && concurrency.is_none() {
        findings.add_problem(&*path, "limits nothing").hint =
            Some("write `shared`, `perUser`, `perClaim` or `concurrency`".to_owned());
    }
    if concurrency.is_some() && matches!(method, Method::Subscribe | Method::Listen) {
        let message = "cannot be enforced: the effect of this method lasts longer than its request";
        findings.add_problem(format!("{path}.concurrency"), message).hint =
            Some("limit the number of requests".to_owned());
    }
    let written = WrittenLimits { shared, per_user, per_claim, per_value: Vec::new(), concurrency };
    let wait_max = waiting::convert_max_wait(max_wait, &path, findings).unwrap_or(wait_max);
    let limits = written.convert(&path, (mode, wait_max), findings);
    waiting::check_rule(&limits, &path, max_wait.is_some(), findings);
    MethodRule { method, limits }
}
