//! Converts `cost` and `settle`: how many tokens calls take.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmcp_ratelimit::policy::{Cost, Limits, Mode, Price, Window};

use crate::convert::Findings;
use crate::file::{CallCost, LimitMode};

/// The cost of the calls that the rule at `path` matches.
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
                findings.add_problem(format!("{path}.cost"), "must be at least 1");
            }
        },
        Some(CallCost::Expression(text)) => {
            cost.price = expression(
                &text,
                Price::new_before_call,
                &format!("{path}.cost"),
                "`1 + size(args.items)`",
                findings,
            );
        }
    }
    if settle.is_none() && settle_max.is_some() {
        findings.add_problem(format!("{path}.settleMax"), "has no effect without `settle`");
    }
    if let Some(text) = settle {
        let example = "`double(result.bytes) / 1000.0`";
        let after =
            |text: &str| Ok(Price::new_after_call(text)?.with_tokens_max(settle_max.unwrap_or(u32::MAX)));
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
            findings.add_problem(path, error).hint =
                Some(format!("write a number or an expression, such as {example}"));
            None
        }
    }
}

/// Reports a cost that a bucket can never hold. In the rule's own bucket it would refuse every call; in the
/// bucket of an override, every call of the callers that the override names. The same holds for the limits on
/// all calls, if both that limit and the cost are enforced.
pub(super) fn check(
    cost: &Cost,
    (limits, server): (&Limits, &Limits),
    path: &str,
    findings: &mut Findings<'_>,
) {
    let least = u64::from(cost.minimum.get());
    let server_quotas = server.quotas().filter(|quota| quota.enforced_percent() > 0);
    let server_quotas = server_quotas.filter(|_| cost.mode == Mode::Enforce);
    let own_quotas = (limits.quotas().collect::<Vec<_>>(), "the bucket");
    for (quotas, which) in [own_quotas, (server_quotas.collect(), "a bucket for all calls")] {
        let smallest =
            |windows: &mut dyn Iterator<Item = &Window>| windows.map(|window| window.rate.burst()).min();
        let smallest_common = smallest(&mut quotas.iter().flat_map(|quota| &quota.windows));
        let smallest_overridden = smallest(&mut quotas.iter().flat_map(|quota| quota.overridden_windows()));
        let (capacity, which, consequence) = match (smallest_common, smallest_overridden) {
            (Some(capacity), _) if least > capacity => (capacity, which.to_owned(), "no call could pass"),
            (_, Some(capacity)) if least > capacity => {
                (capacity, format!("an override of {which}"), "its callers could make no call")
            }
            _ => continue,
        };
        let message = format!("one call costs {least} but {which} holds {capacity}, so {consequence}");
        findings.add_problem(format!("{path}.cost"), message);
    }
}
