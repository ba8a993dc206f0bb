//! The configurations of a run, derived from a seed.

use super::*;
use crate::plan::policy::{Cost, Price};

/// Random numbers from a seed (SplitMix64).
pub(super) struct SeededRng(pub(super) u64);

impl SeededRng {
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

fn random_quota(rng: &mut SeededRng, mode: Mode) -> Option<Quota> {
    if rng.one_in(3) {
        return None;
    }
    let windows = [(1_u64, 10_u64), (3, 1_000), (60, 100_000)];
    let first = usize::try_from(rng.below(3)).unwrap();
    let second = usize::try_from(rng.below(5)).unwrap();
    let indices = std::iter::once(first).chain(Some(second).filter(|second| *second < 3 && *second != first));
    let rate = |index: usize, rng: &mut SeededRng| {
        let (scale, period) = windows[index];
        let tokens = 1 + rng.below(8 * scale);
        Rate::new(tokens, Duration::from_micros(period * (1 + rng.below(3))), tokens).unwrap()
    };
    let mut rates: Vec<Rate> = Vec::new();
    for index in indices {
        let rate = rate(index, rng);
        if rates.iter().all(|known| known.configured().1 != rate.configured().1) {
            rates.push(rate);
        }
    }
    Some(Quota::new(rates, mode))
}

fn random_rule(rng: &mut SeededRng, name: &str) -> ToolRule {
    let mode = if rng.one_in(3) { Mode::Shadow } else { Mode::Enforce };
    let (shared, per_user) = (random_quota(rng, mode), random_quota(rng, mode));
    let cost = Cost {
        minimum: NonZeroU32::new(1 + u32::try_from(rng.below(3)).unwrap()).unwrap(),
        price: rng.one_in(2).then(|| Arc::new(Price::new_before_call("args.n").unwrap())),
        settle: rng.one_in(2).then(|| Arc::new(Price::new_after_call("args.s").unwrap())),
        mode,
    };
    ToolRule { cost, ..rule(name, shared, per_user) }
}

pub(super) fn random_policy(rng: &mut SeededRng) -> LimitPolicy {
    let server = Limits {
        shared: random_quota(rng, Mode::Enforce),
        per_user: random_quota(rng, Mode::Enforce),
        ..Limits::default()
    };
    let names = ["a_search", "*", "*_search"];
    let count = usize::try_from(rng.below(4)).unwrap();
    let rules = names.iter().take(count).map(|name| random_rule(rng, name)).collect();
    policy(server, rules, Anonymous::Refuse)
}

/// The same rules with other sizes, in another order, and some limits left out. Windows keep their periods.
pub(super) fn vary_policy(rng: &mut SeededRng, policy: &LimitPolicy) -> LimitPolicy {
    let mut other = policy.clone();
    if rng.one_in(3) {
        other.tools.reverse();
    }
    let limits =
        std::iter::once(&mut other.server).chain(other.tools.iter_mut().map(|rule| &mut rule.limits));
    for quota in limits.flat_map(|limits| [&mut limits.shared, &mut limits.per_user]) {
        if rng.one_in(8) {
            *quota = None;
        }
        let Some(quota) = quota else { continue };
        if rng.one_in(3) {
            quota.windows.reverse();
        }
        for window in &mut quota.windows {
            let (tokens, period) = window.rate.configured();
            let tokens = if rng.one_in(2) { tokens } else { 1 + rng.below(2 * tokens) };
            *window = Rate::new(tokens, period, tokens).unwrap().into();
        }
    }
    other
}
