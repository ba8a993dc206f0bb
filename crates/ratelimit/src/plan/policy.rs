//! The validated settings of the limiter. `vmcp` builds them from the configuration file. Every policy that
//! can be built here can be enforced exactly.

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
    /// Limits on single tools or groups of tools. Every rule that matches a tool applies.
    pub tools: Vec<ToolRule>,
    /// Limits on requests of other methods.
    pub methods: Vec<MethodRule>,
    /// What a per-user limit does with callers that have no identity.
    pub anonymous: Anonymous,
    /// The bounds of the in-memory store.
    pub memory: MemoryBounds,
    /// How many calls may wait.
    pub waiting: WaitBounds,
    /// How exactly replicas share their buckets.
    pub consistency: Consistency,
    /// When results report how much is left of a limit.
    pub remaining_hints: RemainingHints,
    /// The failures for which tokens are refunded, in addition to calls that never reached their backend.
    pub refund_on: Vec<RefundOn>,
    /// The claims with the groups of a caller: the first that holds a list counts. [`GROUP_CLAIMS`] are
    /// searched after these.
    pub group_claims: Vec<Arc<str>>,
}

/// The claims that are searched for groups after those that the operator names. Authorization policies read
/// the same ones.
pub const GROUP_CLAIMS: [&str; 3] = ["groups", "roles", "cognito:groups"];

/// When and how callers learn how much is left of their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingHints {
    /// A result reports a bucket that holds less than this percentage of its capacity after the call; zero
    /// for never.
    pub below_percent: u8,
    /// Whether there is a resource with the limits of the caller.
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
    /// Replicas lease tokens of fast shared buckets and spend them without asking the store.
    Lease(LeasePolicy),
    /// Like `Lease`, and the buckets of each user have a partition of their own in a cluster, so that one
    /// busy server's load is spread over the whole cluster.
    Split(LeasePolicy),
}

impl Consistency {
    /// The lease policy, if replicas lease tokens.
    #[must_use]
    pub fn lease_policy(&self) -> Option<LeasePolicy> {
        match self {
            Self::Exact => None,
            Self::Lease(policy) | Self::Split(policy) => Some(*policy),
        }
    }
}

/// The fewest tokens that a bucket must earn during a lease. A slower bucket gains nothing by leasing and
/// stays exact.
const LEASE_TOKENS_MIN: u64 = 8;

/// How replicas lease tokens ahead of the calls that spend them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// How long a leased token may be spent; after that it is dropped.
    pub duration: Duration,
    /// Subtracts from the capacity what leases may add to a burst, so that no window ever exceeds the limit
    /// without leases.
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

    /// The largest number of tokens by which the admissions of any window, at all replicas together, exceed
    /// those of an exact bucket. It is what the bucket earns during one lease. Over the long run no call is
    /// admitted in excess.
    #[must_use]
    pub fn excess(&self, rate: &Rate) -> u64 {
        let (tokens, period) = rate.configured();
        let earned = (u128::from(tokens) * self.duration.as_micros()).div_ceil(period.as_micros().max(1));
        u64::try_from(earned).unwrap_or(u64::MAX)
    }

    /// The rate of the bucket in the shared store.
    #[must_use]
    pub fn stored_rate(&self, rate: &Rate) -> Rate {
        if self.hold_back { rate.with_burst(rate.burst().saturating_sub(self.excess(rate))) } else { *rate }
    }
}

/// The limits of one rule, on all callers together, on each value and on each user.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// One bucket for all callers together.
    pub shared: Option<Quota>,
    /// The part of the shared limit that every caller may use. The callers that the rest is reserved for are
    /// exempt by an override.
    pub unreserved: Option<Quota>,
    /// One bucket for each value of a claim, such as a team, or of an argument or header, such as a
    /// repository.
    pub per_value: Vec<ValueQuota>,
    /// One bucket for each user.
    pub per_user: Option<Quota>,
    /// The bounds on in-flight calls.
    pub concurrency: Concurrency,
    /// The longest time that a call waits for these limits before it is refused; zero refuses at once.
    pub wait_max: Duration,
}

/// One limit: one or several windows that must all have room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The windows, at least one.
    pub windows: Vec<Window>,
    /// Whether the limit refuses calls, or is in shadow mode.
    pub mode: Mode,
    /// The percentage of callers that an enforced limit refuses; for the others it is in shadow mode. `None`
    /// for all.
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

    /// The windows of all overrides.
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

    /// The percentage of callers that the limit refuses when it is exceeded; zero in shadow mode.
    #[must_use]
    pub fn enforced_percent(&self) -> u8 {
        match (self.mode, self.percent) {
            (Mode::Shadow, _) => 0,
            (Mode::Enforce, None) => 100,
            (Mode::Enforce, Some(percent)) => percent.get(),
        }
    }

    /// The mode for a caller at a percentile from 0 to 99.
    #[must_use]
    pub fn mode_at(&self, percentile: u8) -> Mode {
        match self.percent {
            Some(percent) if percentile >= percent.get() => Mode::Shadow,
            Some(_) | None => self.mode,
        }
    }
}

/// One limit for each value of a claim, argument or header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueQuota {
    /// The claim, argument or header.
    pub source: ValueSource,
    /// What happens to callers whose claim is missing, or is neither text nor number nor boolean. Calls
    /// without the argument or header share one bucket instead.
    pub missing: MissingValue,
    /// How a claim that is a list counts.
    pub list_handling: ListHandling,
    /// The limit.
    pub quota: Quota,
}

/// Which buckets a caller is charged to if its claim is a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListHandling {
    /// None: a list is not a value, so the claim counts as missing.
    #[default]
    Missing,
    /// The buckets of all values.
    Each,
    /// The bucket of the value with the largest limit.
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

/// What a limit does with a call that exceeds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It refuses the call.
    #[default]
    Enforce,
    /// Shadow mode: it counts and logs, and lets the call pass.
    Shadow,
}

/// The bounds on in-flight calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// For all callers together; `None` for no bound.
    pub shared: Option<NonZeroU32>,
    /// For each user; `None` for no bound.
    pub per_user: Option<NonZeroU32>,
    /// Whether the bounds refuse calls, or are in shadow mode.
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
    /// The largest number of users in the user table.
    pub user_count_max: usize,
    /// What happens to users beyond that number. A user in debt is never removed to make room.
    pub overflow: Overflow,
}

impl Default for MemoryBounds {
    fn default() -> Self {
        Self { user_count_max: 1_000_000, overflow: Overflow::Share }
    }
}

/// The largest number of calls that wait for limits at once, in this process. A call beyond a bound is
/// refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitBounds {
    /// All waiting calls together.
    pub count_max: usize,
    /// The waiting calls of one user. Callers without identity are one user, unless each peer address is a
    /// user.
    pub per_user_count_max: usize,
}

impl Default for WaitBounds {
    fn default() -> Self {
        // At most half of the requests that an edge has in flight wait, which leaves room for other requests.
        Self { count_max: 5_000, per_user_count_max: 100 }
    }
}

/// What happens to users beyond the bound of the user table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// They share one bucket per limit.
    #[default]
    Share,
    /// They are refused.
    Refuse,
}

impl LimitPolicy {
    /// The same limits without leases, for a replica that decides without a shared store.
    #[must_use]
    pub fn without_leases(&self) -> Self {
        Self { consistency: Consistency::Exact, ..self.clone() }
    }

    /// The longest time that any bucket takes to fill from its deepest debt.
    #[must_use]
    pub fn debt_recovery_max(&self) -> Duration {
        let windows = self.limits().flat_map(Limits::quotas).flat_map(Quota::all_windows);
        // Calendar quotas have no legacy keys, so they do not count here.
        let windows = windows.map(|window| &window.rate).filter(|rate| !rate.is_by_calendar());
        let full = |rate: &Rate| Duration::from_micros(rate.wait(-rate.capacity(), rate.capacity()));
        windows.map(full).max().unwrap_or_default()
    }

    /// True if some rule has a per-user limit.
    #[must_use]
    pub fn has_per_user(&self) -> bool {
        let per_user = |limits: &Limits| limits.per_user.is_some() || limits.concurrency.per_user.is_some();
        self.limits().any(per_user)
    }

    /// The limits of the server, of every tool rule and of every method rule.
    pub fn limits(&self) -> impl Iterator<Item = &Limits> {
        let tools = self.tools.iter().map(|rule| &rule.limits);
        std::iter::once(&self.server).chain(tools).chain(self.methods.iter().map(|rule| &rule.limits))
    }
}

impl Limits {
    /// True if there is no limit at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Concurrency { shared, per_user, mode: _ } = self.concurrency;
        self.quotas().next().is_none() && shared.is_none() && per_user.is_none()
    }

    /// Every quota; bounds on in-flight calls are not among them.
    pub fn quotas(&self) -> impl Iterator<Item = &Quota> {
        let values = self.per_value.iter().map(|limit| &limit.quota);
        self.shared.iter().chain(&self.unreserved).chain(&self.per_user).chain(values)
    }
}
