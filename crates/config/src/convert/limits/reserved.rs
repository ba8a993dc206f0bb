//! Converts `reserved`: a part of a bucket of all callers that only some of them may use. The rest is a
//! bucket of its own, from which the named callers are exempt.

use vmcp_ratelimit::Rate;
use vmcp_ratelimit::policy::{LimitSize, Override, Overrides, Quota, Window};

use super::overrides;
use crate::convert::Findings;
use crate::file::{NamedCallers, RateLimitOverride, ReservedShare};
use crate::report::item_path;

/// The limit for callers that `reserved` does not name.
pub(super) fn unreserved_quota(
    shared: &Quota,
    reserved: ReservedShare,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<Quota> {
    let ReservedShare { percent, callers } = reserved;
    if !(1..=99).contains(&percent) {
        findings.add_problem(format!("{path}.percent"), "must be from 1 to 99");
        return None;
    }
    if callers.is_empty() {
        findings.add_problem(format!("{path}.for"), "names no caller").hint =
            Some("write a list of `subject`, `apiKey`, `group`, or `claim` with `value`".to_owned());
    }
    let mut exempt = Vec::new();
    for (index, callers) in callers.into_iter().enumerate() {
        let NamedCallers { subject, issuer, api_key, group, claim, value } = callers;
        let named = RateLimitOverride {
            subject,
            issuer,
            api_key,
            group,
            claim,
            value,
            ..RateLimitOverride::default()
        };
        let path = item_path(&format!("{path}.for"), index);
        if named.subject.as_deref() == Some(overrides::ANY_OTHER) {
            findings.add_problem(&path, "names all callers, for whom nothing need be reserved");
            continue;
        }
        let who = overrides::parse_caller(&named, &path, findings);
        exempt.extend(who.map(|who| Override { selector: who, size: LimitSize::Unlimited }));
    }
    let mut windows = Vec::with_capacity(shared.windows.len());
    for window in &shared.windows {
        let Some(window) = remaining_window(window, percent) else {
            let (tokens, _) = window.rate.configured();
            let text = format!("leaves other callers nothing that can be counted of {tokens} tokens");
            findings.add_problem(format!("{path}.percent"), text);
            return None;
        };
        windows.push(window);
    }
    Some(Quota { windows, overrides: Overrides::new(exempt), ..shared.clone() })
}

/// The window without its reserved part, which is rounded up. `None` if too few tokens are left for a rate.
fn remaining_window(window: &Window, percent: u8) -> Option<Window> {
    let Window { rate, calendar } = window;
    let remaining = |tokens: u64| tokens * u64::from(100 - percent) / 100;
    let (tokens, period) = rate.configured();
    let rate = match calendar {
        Some(_) => Rate::per_calendar_period(remaining(tokens), period),
        None => Rate::new(remaining(tokens), period, remaining(rate.burst())),
    };
    Some(Window { rate: rate.ok()?, calendar: calendar.clone() })
}
