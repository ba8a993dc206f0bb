//! The validated settings of the limiter. Built by `vmcp` from the config file; what can be built here can be
//! enforced exactly.

mod overrides;
pub(crate) mod refund;
mod rules;
mod value;
mod window;

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use crate::bucket::rate::Rate;
use crate::plan::policy::refund::RefundOn;
pub use crate::plan::price::{Price, PriceError};
pub use overrides::{CallerSelector, LimitSize, LimitSizeRef, Override, Overrides};
pub use rules::{Cost, Method, MethodRule, ToolAnnotation, ToolRule};
pub use value::{CallPart, CallValue, ValueKind, ValueSource};
pub use window::Window;

/// Every limit of one gateway.
#[derive(Clone, Debug, Default)]
pub struct LimitPolicy {
    /// Limits on all tool calls together.
    pub server: Limits,
    /// Limits on single tools, or groups of them. Every rule that fits a tool applies.
    pub tools: Vec<ToolRule>,
    /// Limits on what else clients may ask.
    pub methods: Vec<MethodRule>,
    /// What a per-user limit does with callers that have no identity.
    pub anonymous: Anonymous,
    /// The bounds of the in-memory store.
    pub memory: MemoryBounds,
    /// How many calls may wait.
    pub waiting: WaitBounds,
    /// How exactly replicas share their buckets.
    pub consistency: Consistency,
    /// When results say how much is left.
    pub remaining_hints: RemainingHints,
    /// For what calls are given back besides those that never left.
    pub refund_on: Vec<RefundOn>,
    /// The claims that say which groups a caller is in: the first that holds a list counts. Those of
    /// [`GROUP_CLAIMS`] are looked at after these.
    pub group_claims: Vec<Arc<str>>,
}

/// The claims that hold groups where the operator names none: those that policies look at, too.
pub const GROUP_CLAIMS: [&str; 3] = ["groups", "roles", "cognito:groups"];

/// When and how callers are told how much is left of their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingHints {
    /// A result says so when a bucket holds less than so many hundredths of its capacity after the call; zero for never.
    pub below_percent: u8,
    /// Whether there is a resource that tells.
    pub resource: bool,
}

impl Default for RemainingHints {
    fn default() -> Self {
        Self { below_percent: 20, resource: false }
    }
}

/// How exactly replicas share their buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// The shared store decides about every call.
    #[default]
    Exact,
    /// Replicas take tokens of fast shared buckets ahead and spend them by themselves.
    Lease(LeasePolicy),
    /// The same, and the buckets of each user have a place of their own in a cluster, so that one busy server is spread
    /// over all of it.
    Split(LeasePolicy),
}

impl Consistency {
    /// The leases, where there are any.
    #[must_use]
    pub fn lease_policy(&self) -> Option<LeasePolicy> {
        match self {
            Self::Exact => None,
            Self::Lease(policy) | Self::Split(policy) => Some(*policy),
        }
    }
}

/// The fewest tokens that a bucket must earn during a lease. One that earns fewer gains nothing by it and stays exact.
const LEASE_TOKENS_MIN: u64 = 8;

/// How replicas take tokens ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// How long a token that was taken may be spent; after that it is dropped.
    pub duration: Duration,
    /// Takes what leases may add to a burst off the bucket, so that no window ever holds more than it would without.
    pub hold_back: bool,
}

impl LeasePolicy {
    /// Whether a bucket of which one call takes `cost` tokens is leased: it fills fast and holds enough.
    #[must_use]
    pub fn is_leased(&self, rate: &Rate, cost: NonZeroU32) -> bool {
        let excess = self.excess(rate);
        let left = rate.burst().saturating_sub(excess);
        !rate.is_by_calendar() && excess >= LEASE_TOKENS_MIN && left >= excess.max(u64::from(cost.get()))
    }

    /// The most tokens by which the admissions of any window exceed what an exact bucket would have let pass, all
    /// replicas together: what the bucket earns during one lease. Over the long run nothing is admitted in excess.
    #[must_use]
    pub fn excess(&self, rate: &Rate) -> u64 {
        let (tokens, period) = rate.configured();
        let earned = (u128::from(tokens) * self.duration.as_micros()).div_ceil(period.as_micros().max(1));
        u64::try_from(earned).unwrap_or(u64::MAX)
    }

    /// The bucket as the shared store keeps it.
    #[must_use]
    pub fn stored_rate(&self, rate: &Rate) -> Rate {
        if self.hold_back { rate.with_burst(rate.burst().saturating_sub(self.excess(rate))) } else { *rate }
    }
}

/// Limits on one thing: for everybody together, and for each user.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// One bucket for everybody.
    pub shared: Option<Quota>,
    /// The part of it that every caller may use. Those for whom the rest is reserved are exempt by an override.
    pub unreserved: Option<Quota>,
    /// One bucket for each value of a claim, such as a team, or of an argument or header, such as a repository.
    pub per_value: Vec<ValueQuota>,
    /// One bucket for each user.
    pub per_user: Option<Quota>,
    /// Calls in flight.
    pub concurrency: Concurrency,
    /// How long a call waits for these before it is refused; zero refuses at once.
    pub wait_max: Duration,
}

/// One limit: one or several windows that must all have room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The windows, at least one.
    pub windows: Vec<Window>,
    /// What a refusal does.
    pub mode: Mode,
    /// For how many users out of a hundred an enforced limit is one; for the others it is in shadow mode. `None` for
    /// all.
    pub percent: Option<NonZeroU8>,
    /// Other windows for some callers.
    pub overrides: Overrides,
}

impl Quota {
    /// A limit of one size for all callers.
    #[must_use]
    pub fn new(windows: Vec<Rate>, mode: Mode) -> Self {
        let windows = windows.into_iter().map(Window::from).collect();
        Self { windows, mode, percent: None, overrides: Overrides::default() }
    }

    /// The windows of callers who have others.
    pub fn overridden_windows(&self) -> impl Iterator<Item = &Window> {
        self.overrides.iter().flat_map(|one| match &one.size {
            LimitSize::Windows(windows) => windows.as_slice(),
            LimitSize::Blocked | LimitSize::Unlimited => &[],
        })
    }

    /// Every window that some caller has.
    pub fn all_windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter().chain(self.overridden_windows())
    }

    /// For how many callers in a hundred it refuses.
    #[must_use]
    pub fn enforced_percent(&self) -> u8 {
        match (self.mode, self.percent) {
            (Mode::Shadow, _) => 0,
            (Mode::Enforce, None) => 100,
            (Mode::Enforce, Some(percent)) => percent.get(),
        }
    }

    /// What a refusal does to a caller who stands at so many of a hundred.
    #[must_use]
    pub fn mode_at(&self, standing: u8) -> Mode {
        match self.percent {
            Some(percent) if standing >= percent.get() => Mode::Shadow,
            Some(_) | None => self.mode,
        }
    }
}

/// One limit for each value of something that callers, or their calls, differ by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueQuota {
    /// Of what.
    pub source: ValueSource,
    /// What happens to callers whose claim is missing, or neither text nor number nor truth value. Calls without the
    /// argument or header share one bucket.
    pub missing: MissingValue,
    /// Which values of a claim count that is a list.
    pub list_handling: ListHandling,
    /// The limit.
    pub quota: Quota,
}

/// Which buckets a caller is charged to whose claim is a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListHandling {
    /// None: a list is no value, so the claim is missing.
    #[default]
    Missing,
    /// Those of all values.
    Each,
    /// The one of the value that is allowed most.
    Largest,
}

/// What a limit for each value of a claim does with callers without the claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingValue {
    /// They are refused.
    #[default]
    Refuse,
    /// All of them share one bucket.
    Shared,
}

/// What a rule does when it would refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It refuses.
    #[default]
    Enforce,
    /// It counts and logs, and lets the call pass.
    Shadow,
}

/// How many calls may be in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// For everybody together.
    pub shared: Option<NonZeroU32>,
    /// For each user.
    pub per_user: Option<NonZeroU32>,
    /// What a refusal does.
    pub mode: Mode,
}

/// What a per-user limit does with callers that have no identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// All of them are one user.
    Shared,
    /// Each peer address is a user.
    Address,
    /// They are refused.
    #[default]
    Refuse,
}

/// The bounds of the in-memory store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBounds {
    /// How many users are told apart at once.
    pub user_count_max: usize,
    /// What happens to users beyond that. A user in debt is never forgotten to make room.
    pub overflow: Overflow,
}

impl Default for MemoryBounds {
    fn default() -> Self {
        Self { user_count_max: 1_000_000, overflow: Overflow::Share }
    }
}

/// How many calls wait for limits at once, in this process. Whoever comes beyond is refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitBounds {
    /// All calls together.
    pub count_max: usize,
    /// The calls of one user. Callers without identity are one user, unless their addresses are users.
    pub per_user_count_max: usize,
}

impl Default for WaitBounds {
    fn default() -> Self {
        // Half of the requests that an edge has in work at most, so that waiting ones leave room for others.
        Self { count_max: 5_000, per_user_count_max: 100 }
    }
}

/// What happens to users beyond the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// They share one bucket.
    #[default]
    Share,
    /// They are refused.
    Refuse,
}

impl LimitPolicy {
    /// The same limits for one replica that is by itself: there is nobody to take tokens ahead of.
    #[must_use]
    pub fn without_leases(&self) -> Self {
        Self { consistency: Consistency::Exact, ..self.clone() }
    }

    /// The longest time that a bucket takes to fill out of the deepest debt.
    #[must_use]
    pub fn debt_recovery_max(&self) -> Duration {
        let windows = self.limits().flat_map(Limits::quotas).flat_map(Quota::all_windows);
        // One by the calendar has no former key.
        let windows = windows.map(|window| &window.rate).filter(|rate| !rate.is_by_calendar());
        let full = |rate: &Rate| Duration::from_micros(rate.wait(-rate.capacity(), rate.capacity()));
        windows.map(full).max().unwrap_or_default()
    }

    /// True when some rule tells users apart.
    #[must_use]
    pub fn has_per_user(&self) -> bool {
        let per_user = |limits: &Limits| limits.per_user.is_some() || limits.concurrency.per_user.is_some();
        self.limits().any(per_user)
    }

    /// Every set of limits.
    pub fn limits(&self) -> impl Iterator<Item = &Limits> {
        let tools = self.tools.iter().map(|rule| &rule.limits);
        std::iter::once(&self.server).chain(tools).chain(self.methods.iter().map(|rule| &rule.limits))
    }
}

impl Limits {
    /// Whether they limit nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Concurrency { shared, per_user, mode: _ } = self.concurrency;
        self.quotas().next().is_none() && shared.is_none() && per_user.is_none()
    }

    /// Every limit on how often.
    pub fn quotas(&self) -> impl Iterator<Item = &Quota> {
        let values = self.per_value.iter().map(|limit| &limit.quota);
        self.shared.iter().chain(&self.unreserved).chain(&self.per_user).chain(values)
    }
}
