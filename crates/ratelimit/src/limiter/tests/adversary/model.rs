//! The exact model: buckets in whole units without a limit on numbers, and the rules in their simplest form.

use std::collections::HashMap;

use vmcp_domain::Tool;
use vmcp_timing::Micros;

use crate::bucket::rate::{BucketState, Level, Rate};
use crate::bucket::user_table::round_trip_packed;
use crate::plan::policy::{LimitPolicy, Limits, Mode, Quota};

/// A rule of the model.
pub(super) struct Rule {
    name: String,
    is_shadow: bool,
    min: u32,
    is_priced: bool,
    settles: bool,
}

/// How a bucket fills, in units.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Size {
    refill: i128,
    unit: i128,
    capacity: i128,
}

/// One window of one limit.
struct Window {
    /// The limit as the configuration names it.
    limit: String,
    /// The same with the period, which identifies the window in another configuration.
    name: String,
    rule: Option<usize>,
    per_user: bool,
    size: Size,
}

/// The prices in a call's arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallPrices {
    pub(super) price: u32,
    pub(super) settles: u32,
}

/// Identifies a bucket: its window, the tool for a tool's rule, and the user.
type Key = (String, Option<usize>, Option<String>);

#[derive(Clone, Copy)]
struct State {
    /// In units of its own size, which is that of the configuration in which it changed last.
    level: i128,
    at: u64,
    above_half_at: u64,
    size: Size,
}

/// What a call has paid to one bucket.
#[derive(Debug)]
pub(super) struct ModelPayment {
    key: Key,
    cost: u32,
    at: u64,
    /// The index of the payment in the bucket's list of charges.
    logged: usize,
}

#[derive(Debug)]
pub(super) struct ModelDecision {
    pub(super) admitted: bool,
    pub(super) would_refuse: Vec<String>,
    pub(super) paid: Vec<ModelPayment>,
}

pub(super) struct Model {
    rules: Vec<Rule>,
    windows: Vec<Window>,
    names: Vec<String>,
    states: HashMap<Key, State>,
    /// Whether users' buckets are in the user table of the memory store, which rounds moments.
    in_memory: bool,
    /// The units that stay charged for each call, with the moment when it paid; other changes are entries of
    /// zero units.
    charges: HashMap<Key, Vec<(u64, i128)>>,
}

impl Window {
    fn of(limit: &str, rule: Option<usize>, per_user: bool, rate: &Rate) -> Self {
        let (tokens, period) = rate.configured();
        let period = u64::try_from(period.as_micros()).unwrap();
        let common = (1..=tokens.min(period)).rev().find(|by| tokens % by == 0 && period % by == 0).unwrap();
        let (refill, unit) = (i128::from(tokens / common), i128::from(period / common));
        let size = Size { refill, unit, capacity: unit * i128::from(tokens) };
        Self { limit: limit.to_owned(), name: format!("{limit} {period}"), rule, per_user, size }
    }
}

impl Size {
    fn full(self, now: u64) -> State {
        State { level: self.capacity, at: now, above_half_at: now, size: self }
    }
}

impl State {
    fn advanced_to(self, now: u64) -> Self {
        let Size { refill, capacity, .. } = self.size;
        let earned = i128::from(now.saturating_sub(self.at)) * refill;
        let (level, at) = ((self.level + earned).min(capacity), self.at.max(now));
        let high_at = if level > capacity / 2 { at } else { self.above_half_at };
        Self { level, at, above_half_at: high_at, ..self }
    }

    /// The same bucket in another size: it lacks as many tokens, rounded up.
    fn resized(self, size: Size) -> Self {
        if self.size == size {
            return self;
        }
        let missing = (self.size.capacity - self.level) * size.unit;
        let missing = (missing + self.size.unit - 1).div_euclid(self.size.unit);
        Self { level: size.capacity - missing, above_half_at: self.at, size, ..self }
    }

    /// The most of `units` that a call may be refunded that has paid `paid` at a moment.
    fn refundable(self, (paid, paid_at): (i128, u64), units: i128) -> i128 {
        let Size { refill, capacity, .. } = self.size;
        let since_paid = paid - i128::from(self.at.saturating_sub(paid_at)) * refill;
        let below_half = if paid_at > self.above_half_at { capacity - capacity / 2 } else { 0 };
        units.min(since_paid.max(below_half)).max(0)
    }
}

fn read(policy: &LimitPolicy) -> (Vec<Rule>, Vec<Window>) {
    let rule = |rule: &crate::plan::policy::ToolRule| Rule {
        name: rule.name.as_str().to_owned(),
        is_shadow: rule.cost.mode == Mode::Shadow,
        min: rule.cost.minimum.get(),
        is_priced: rule.cost.price.is_some(),
        settles: rule.cost.settle.is_some(),
    };
    let mut windows = Vec::new();
    for per_user in [false, true] {
        let mut add = |index: Option<usize>, title: String, limits: &Limits| {
            let quota: Option<&Quota> =
                if per_user { limits.per_user.as_ref() } else { limits.shared.as_ref() };
            let limit = format!("{title}{}", if per_user { "perUser" } else { "shared" });
            let rates = quota.iter().flat_map(|quota| &quota.windows);
            windows.extend(rates.map(|window| Window::of(&limit, index, per_user, &window.rate)));
        };
        add(None, String::new(), &policy.server);
        for (index, rule) in policy.tools.iter().enumerate() {
            add(Some(index), format!("tools[{}].", rule.name.as_str()), &rule.limits);
        }
    }
    (policy.tools.iter().map(rule).collect(), windows)
}

fn fits(rule: &str, tool: &str) -> bool {
    rule.strip_prefix('*').map_or(rule == tool, |end| tool.ends_with(end))
}

impl Model {
    pub(super) fn new(policy: &LimitPolicy, tools: &[Tool], in_memory: bool) -> Self {
        let names = tools.iter().map(|tool| tool.name.as_str().to_owned()).collect();
        let (rules, windows) = read(policy);
        Self { rules, windows, names, states: HashMap::new(), in_memory, charges: HashMap::new() }
    }

    /// The next process takes over with another configuration. It does not keep what limits in shadow mode
    /// for all callers have counted for single users.
    pub(super) fn restart(&mut self, policy: &LimitPolicy, now: u64) {
        self.check_windows();
        self.charges.clear();
        let on_trial: Vec<&str> = (0..self.windows.len())
            .filter(|index| self.windows[*index].per_user && self.is_shadow(*index))
            .map(|index| &*self.windows[index].name)
            .collect();
        self.states.retain(|(name, _, _), _| !on_trial.contains(&&**name));
        (self.rules, self.windows) = read(policy);
        for (key, state) in &mut self.states {
            let State { level, size, .. } = state.advanced_to(now);
            let level = level.max(-size.capacity);
            *state = State { level, at: now, above_half_at: now, size };
            let shared = self.windows.iter().find(|window| window.name == key.0 && !window.per_user);
            // A user's bucket changes its size when it is next paid from.
            if let Some(window) = shared {
                *state = state.resized(window.size);
            }
        }
        self.states.retain(|_, state| state.level < state.size.capacity);
    }

    /// The windows that apply to a tool, in the order of its views.
    fn windows_of_tool(&self, tool: usize) -> Vec<usize> {
        let name = &self.names[tool];
        let covers = |window: &Window| window.rule.is_none_or(|rule| fits(&self.rules[rule].name, name));
        (0..self.windows.len()).filter(|index| covers(&self.windows[*index])).collect()
    }

    fn is_shadow(&self, window: usize) -> bool {
        self.windows[window].rule.is_some_and(|rule| self.rules[rule].is_shadow)
    }

    pub(super) fn has_enforced(&self, tool: usize) -> bool {
        self.windows_of_tool(tool).into_iter().any(|window| !self.is_shadow(window))
    }

    fn key(&self, window: usize, tool: usize, user: &str) -> Key {
        let Window { rule, per_user, name, .. } = &self.windows[window];
        (name.clone(), rule.map(|_| tool), per_user.then(|| user.to_owned()))
    }

    fn window(&self, key: &Key) -> &Window {
        self.windows.iter().find(|window| window.name == key.0).unwrap()
    }

    fn state(&self, key: &Key, now: u64) -> State {
        let size = self.window(key).size;
        self.states.get(key).copied().unwrap_or_else(|| size.full(now)).advanced_to(now).resized(size)
    }

    fn store_state(&mut self, key: &Key, mut state: State) {
        if self.in_memory && self.window(key).per_user {
            let level = Level { units: 0, at: Micros(state.at) };
            state.above_half_at =
                round_trip_packed(BucketState { level, above_half_at: Micros(state.above_half_at) })
                    .above_half_at
                    .0;
        }
        self.states.insert(key.clone(), state);
    }

    /// The cost of one call in a bucket: the largest of the enforced rules, and of the bucket's own rule in
    /// shadow mode.
    fn cost(&self, window: usize, tool: usize, terms: CallPrices) -> u32 {
        let own = self.windows[window].rule;
        let counts = |index: usize, rule: &Rule| {
            fits(&rule.name, &self.names[tool]) && (!rule.is_shadow || own == Some(index))
        };
        let costs = self.rules.iter().enumerate().filter(|(index, rule)| counts(*index, rule));
        costs.map(|(_, rule)| rule.min.max(if rule.is_priced { terms.price } else { 0 })).max().unwrap_or(1)
    }

    pub(super) fn decide(&mut self, tool: usize, user: &str, terms: CallPrices, now: u64) -> ModelDecision {
        let mut decided = ModelDecision { admitted: true, would_refuse: Vec::new(), paid: Vec::new() };
        let mut paying = Vec::new();
        for window in self.windows_of_tool(tool) {
            let (key, cost) = (self.key(window, tool, user), self.cost(window, tool, terms));
            let short = self.state(&key, now).level < self.windows[window].size.unit * i128::from(cost);
            match (short, self.is_shadow(window)) {
                (false, _) => paying.push((key, cost)),
                (true, false) => decided.admitted = false,
                (true, true) => decided.would_refuse.push(self.windows[window].limit.clone()),
            }
        }
        decided.would_refuse.sort();
        decided.would_refuse.dedup();
        if !decided.admitted {
            decided.would_refuse.clear();
            return decided;
        }
        for (key, cost) in paying {
            let state = self.state(&key, now);
            let units = state.size.unit * i128::from(cost);
            self.store_state(&key, State { level: state.level - units, ..state });
            let charges = self.charges.entry(key.clone()).or_default();
            charges.push((now, units));
            decided.paid.push(ModelPayment { key, cost, at: now, logged: charges.len() - 1 });
        }
        decided
    }

    /// The call never left: its whole payment is refunded, as far as a refund is allowed.
    pub(super) fn refund(&mut self, paid: &[ModelPayment], now: u64) {
        for paid in paid {
            self.adjust(paid, -i128::from(paid.cost), now);
        }
    }

    /// The call turned out to cost `settles`, where a rule says so: an enforced rule for all buckets, a rule
    /// in shadow mode for its own.
    pub(super) fn settle(&mut self, tool: usize, paid: &[ModelPayment], settles: u32, now: u64) {
        for paid in paid {
            let own = self.window(&paid.key).rule;
            let counts = |(index, rule): (usize, &Rule)| {
                rule.settles && fits(&rule.name, &self.names[tool]) && (!rule.is_shadow || own == Some(index))
            };
            if self.rules.iter().enumerate().any(counts) {
                self.adjust(paid, i128::from(settles) - i128::from(paid.cost), now);
            }
        }
    }

    fn adjust(&mut self, paid: &ModelPayment, more: i128, now: u64) {
        if more == 0 {
            return;
        }
        if !self.states.contains_key(&paid.key) {
            return;
        }
        let state = self.state(&paid.key, now);
        let Size { unit, capacity, .. } = state.size;
        let (units, cost) = (more * unit, i128::from(paid.cost) * unit);
        let change = if units < 0 { state.refundable((cost, paid.at), -units) } else { -units };
        let level = (state.level + change).clamp(state.level.min(-capacity), capacity);
        self.store_state(&paid.key, State { level, ..state });
        let charges = self.charges.get_mut(&paid.key).unwrap();
        charges[paid.logged].1 = cost + units.min(0);
        charges.push((now, 0));
    }

    /// The whole tokens of each bucket of a tool; a debt counts as zero.
    pub(super) fn levels(&self, tool: usize, user: &str, now: u64) -> Vec<(String, u64)> {
        let level = |window: usize| {
            let state = self.state(&self.key(window, tool, user), now);
            let level = state.level.max(0) / state.size.unit;
            (self.windows[window].limit.clone(), u64::try_from(level).unwrap())
        };
        self.windows_of_tool(tool).into_iter().map(level).collect()
    }

    /// Asserts that every charge that remains could have been paid when it was made: so no stretch of time
    /// admitted more than a bucket holds and refills.
    pub(super) fn check_windows(&self) {
        for (key, charges) in &self.charges {
            let window = self.window(key);
            let mut state = window.size.full(0);
            for (at, units) in charges {
                state = state.advanced_to(*at);
                state.level -= units;
                assert!(state.level >= 0, "{}: {} too many at {at}", window.limit, -state.level);
            }
        }
    }
}
