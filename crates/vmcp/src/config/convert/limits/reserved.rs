//! `reserved`: a part of a bucket of all callers that only some may use. What the others may use is a bucket of its own, from
//! which those who are named are exempt.

use vmcp_ratelimit::Rate;
use vmcp_ratelimit::policy::{Override, Overrides, Quota, Size, Window};

use super::overrides;
use crate::config::convert::Findings;
use crate::config::file::{NamedCallers, RateLimitOverride, ReservedShare};
use crate::config::report::item;

/// What callers may use for whom nothing is reserved.
pub(super) fn unreserved(
    shared: &Quota,
    reserved: ReservedShare,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<Quota> {
    let ReservedShare { percent, callers } = reserved;
    if !(1..=99).contains(&percent) {
        findings.problem(format!("{path}.percent"), "must be from 1 to 99");
        return None;
    }
    if callers.is_empty() {
        findings.problem(format!("{path}.for"), "names no caller").hint =
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
        let path = item(&format!("{path}.for"), index);
        if named.subject.as_deref() == Some(overrides::REST) {
            findings.problem(&path, "names all callers, for whom nothing need be reserved");
            continue;
        }
        let who = overrides::caller(&named, &path, findings);
        exempt.extend(who.map(|who| Override { who, size: Size::Unlimited }));
    }
    let mut windows = Vec::with_capacity(shared.windows.len());
    for window in &shared.windows {
        let Some(window) = rest(window, percent) else {
            let (tokens, _) = window.rate.asked();
            let text = format!("leaves other callers nothing that can be counted of {tokens} tokens");
            findings.problem(format!("{path}.percent"), text);
            return None;
        };
        windows.push(window);
    }
    Some(Quota { windows, overrides: Overrides::new(exempt), ..shared.clone() })
}

/// What is left of a window; at least the reserved part is taken off it.
fn rest(window: &Window, percent: u8) -> Option<Window> {
    let Window { rate, calendar } = window;
    let left = |tokens: u64| tokens * u64::from(100 - percent) / 100;
    let (tokens, period) = rate.asked();
    let rate = match calendar {
        Some(_) => Rate::in_period(left(tokens), period),
        None => Rate::new(left(tokens), period, left(rate.burst())),
    };
    Some(Window { rate: rate.ok()?, calendar: calendar.clone() })
}
