//! `cost` and `settle`: what calls cost.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmcp_ratelimit::Rate;
use vmcp_ratelimit::policy::{Cost, Limits, Mode, Price};

use crate::config::convert::Findings;
use crate::config::file::{CallCost, LimitMode};

/// The cost of a rule at `path`.
pub(super) fn convert(
    file: Option<CallCost>,
    (settle, settle_max): (Option<String>, Option<u32>),
    path: &str,
    mode: LimitMode,
    findings: &mut Findings<'_>,
) -> Cost {
    let mut cost = Cost::default();
    match file {
        None => {}
        Some(CallCost::Tokens(tokens)) => match NonZeroU32::new(tokens) {
            Some(tokens) => cost = tokens.into(),
            None => {
                findings.problem(format!("{path}.cost"), "must be at least 1");
            }
        },
        Some(CallCost::Expression(text)) => {
            cost.price =
                expression(&text, Price::before, &format!("{path}.cost"), "`1 + size(args.items)`", findings);
        }
    }
    if settle.is_none() && settle_max.is_some() {
        findings.problem(format!("{path}.settleMax"), "has no effect without `settle`");
    }
    if let Some(text) = settle {
        let example = "`double(result.bytes) / 1000.0`";
        let after = |text: &str| Ok(Price::after(text)?.at_most(settle_max.unwrap_or(u32::MAX)));
        cost.settle = expression(&text, after, &format!("{path}.settle"), example, findings);
    }
    if mode != LimitMode::Enforce {
        cost.mode = Mode::Shadow;
    }
    cost
}

fn expression(
    text: &str,
    compile: impl Fn(&str) -> Result<Price, String>,
    path: &str,
    example: &str,
    findings: &mut Findings<'_>,
) -> Option<Arc<Price>> {
    match compile(text) {
        Ok(price) => Some(Arc::new(price)),
        Err(error) => {
            findings.problem(path, error).hint =
                Some(format!("write a number or an expression, such as {example}"));
            None
        }
    }
}

/// A price that a rule's own bucket can never pay would refuse every call.
/// The same holds for the limits on all calls where both refuse.
pub(super) fn check(
    cost: &Cost,
    (limits, server): (&Limits, &Limits),
    path: &str,
    findings: &mut Findings<'_>,
) {
    let smallest = |limits: &Limits, any: bool| {
        let quotas = limits.quotas().filter(|quota| any || quota.enforced_percent() > 0);
        quotas.flat_map(|quota| &quota.windows).map(Rate::burst).min().unwrap_or(u64::MAX)
    };
    let (least, own) = (cost.least, smallest(limits, true));
    let of_all = if cost.mode == Mode::Enforce { smallest(server, false) } else { u64::MAX };
    for (smallest, which) in [(own, "the bucket holds"), (of_all, "a bucket for all calls holds")] {
        if u64::from(least.get()) > smallest {
            let message = format!("one call costs {least} but {which} {smallest}, so no call could pass");
            findings.problem(format!("{path}.cost"), message);
        }
    }
}
