//! The configurations of a run, by a seed.

use super::*;
use crate::policy::{Cost, Price};

/// Numbers by a seed (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.roll(count) == 0
    }
}

fn quota_of(dice: &mut Dice, mode: Mode) -> Option<Quota> {
    if dice.one_in(3) {
        return None;
    }
    let windows = [(1_u64, 10_u64), (3, 1_000), (60, 100_000)];
    let first = usize::try_from(dice.roll(3)).unwrap();
    let second = usize::try_from(dice.roll(5)).unwrap();
    let places = std::iter::once(first).chain(Some(second).filter(|second| *second < 3 && *second != first));
    let rate = |place: usize, dice: &mut Dice| {
        let (scale, period) = windows[place];
        let tokens = 1 + dice.roll(8 * scale);
        Rate::new(tokens, Duration::from_micros(period * (1 + dice.roll(3))), tokens).unwrap()
    };
    let mut rates: Vec<Rate> = Vec::new();
    for place in places {
        let rate = rate(place, dice);
        if rates.iter().all(|known| known.asked().1 != rate.asked().1) {
            rates.push(rate);
        }
    }
    Some(Quota::new(rates, mode))
}

fn rule_of(dice: &mut Dice, name: &str) -> ToolRule {
    let mode = if dice.one_in(3) { Mode::Shadow } else { Mode::Enforce };
    let (shared, per_user) = (quota_of(dice, mode), quota_of(dice, mode));
    let cost = Cost {
        least: NonZeroU32::new(1 + u32::try_from(dice.roll(3)).unwrap()).unwrap(),
        price: dice.one_in(2).then(|| Arc::new(Price::before("args.n").unwrap())),
        settle: dice.one_in(2).then(|| Arc::new(Price::after("args.s").unwrap())),
        mode,
    };
    ToolRule { cost, ..rule(name, shared, per_user) }
}

pub(super) fn policy_of(dice: &mut Dice) -> LimitPolicy {
    let server = Limits {
        shared: quota_of(dice, Mode::Enforce),
        per_user: quota_of(dice, Mode::Enforce),
        ..Limits::default()
    };
    let names = ["a_search", "*", "*_search"];
    let count = usize::try_from(dice.roll(4)).unwrap();
    let rules = names.iter().take(count).map(|name| rule_of(dice, name)).collect();
    policy(server, rules, Anonymous::Refuse)
}

/// The same rules with other sizes, in another order, and some limits left out. Windows keep their periods.
pub(super) fn other_policy(dice: &mut Dice, policy: &LimitPolicy) -> LimitPolicy {
    let mut other = policy.clone();
    if dice.one_in(3) {
        other.tools.reverse();
    }
    let limits =
        std::iter::once(&mut other.server).chain(other.tools.iter_mut().map(|rule| &mut rule.limits));
    for quota in limits.flat_map(|limits| [&mut limits.shared, &mut limits.per_user]) {
        if dice.one_in(8) {
            *quota = None;
        }
        let Some(quota) = quota else { continue };
        if dice.one_in(3) {
            quota.windows.reverse();
        }
        for window in &mut quota.windows {
            let (tokens, period) = window.rate.asked();
            let tokens = if dice.one_in(2) { tokens } else { 1 + dice.roll(2 * tokens) };
            *window = Rate::new(tokens, period, tokens).unwrap().into();
        }
    }
    other
}
