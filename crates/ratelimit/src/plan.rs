//! Plans: which buckets and slot limits a call of a tool is charged to. Rules name advertised tools, but the
//! buckets belong to the tool that really runs. So every name and every path that leads to a tool spends from
//! the same buckets.

pub(crate) mod call_values;
pub(crate) mod claims;
mod costs;
mod planner;
pub mod policy;
pub(crate) mod price;
pub(crate) mod value_buckets;
pub(crate) mod variation;

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::Mutex;
use smallvec::SmallVec;
use vmcp_domain::{LimitScope, LimitedOperation, Tool};
use vmcp_timing::{Clock, Micros};

use crate::bucket::calendar::{Calendar, Period};
use crate::bucket::decide::BucketSnapshot;
use crate::bucket::rate::{BucketState, Rate};
use crate::bucket::user_key::UserKey;
use crate::plan::policy::{Method, Mode};
pub use crate::plan::variation::{
    BucketValue, BucketValues, OverriddenLimit, RequiredValue, Variation, VariationInputs,
};
pub use costs::{Costs, RulePrice};
pub(crate) use costs::{Settlement, UNPAYABLE};
pub use planner::Planner;
pub(crate) use planner::SavedDefinition;

/// Identifies one bucket definition for the lifetime of the process: the same rule on the same tool always
/// has the same identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u32);

/// Where the level of a bucket is stored.
#[derive(Clone, Debug)]
pub enum LevelStorage {
    /// One level for all callers; `None` until a call first spends from it.
    Shared(Arc<Mutex<Option<BucketState>>>),
    /// One level per user, in the user table.
    User,
    /// One level per user, for a limit in shadow mode for all callers. It has a user table of its own.
    ShadowUser,
}

impl LevelStorage {
    /// True for a level per user.
    #[must_use]
    pub fn is_per_user(&self) -> bool {
        matches!(self, Self::User | Self::ShadowUser)
    }
}

/// The lock order of buckets: from wide to narrow scope, then by rule, by claim and by window.
pub(crate) type LockRank = (u8, u32, u32, u32);

/// Which window of a limit a bucket belongs to. Key layout 2 named buckets by it; see [`crate::LegacyKeys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegacyWindow {
    /// Its index among the windows of the limit.
    pub(crate) index: u8,
    /// The number of windows of the limit.
    pub(crate) count: u8,
    /// The byte offset of the period in the bucket's key.
    pub(crate) period_offset: u16,
}

/// One bucket that a call is charged to.
#[derive(Clone, Debug)]
pub struct PlannedBucket {
    /// The bucket definition.
    pub id: BucketId,
    /// Its rank in the order in which buckets are locked. Buckets of equal rank are ordered by identifier.
    pub(crate) lock_rank: LockRank,
    /// The key of the bucket, the same on every replica. A user's digest is appended for per-user buckets.
    pub key: Arc<str>,
    /// The window of the limit that the bucket belongs to.
    pub(crate) legacy_window: LegacyWindow,
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// The scope of the limit.
    pub scope: LimitScope,
    /// The refill rate and the capacity.
    pub rate: Rate,
    /// What a call costs, in tokens.
    pub cost: NonZeroU32,
    /// What a call costs, in units.
    pub cost_units: i64,
    /// Whether the bucket refuses a call that it cannot pay, or is in shadow mode.
    pub mode: Mode,
    /// Where its level is stored.
    pub storage: LevelStorage,
    /// The index of its rule, if that is in shadow mode. The rule's price then counts in this bucket, in
    /// addition to the prices of enforced rules.
    pub shadow_rule: Option<u32>,
    /// The percentage of callers that it is enforced for; `None` for all.
    pub percent: Option<NonZeroU8>,
    /// The key of the claim, argument or header value that the bucket is for; `None` for a bucket of all
    /// callers or of a user.
    pub owner: Option<UserKey>,
    /// The definitions of the same user's bucket in the other sizes that overrides give it. Each size has a
    /// level of its own in this process.
    pub(crate) other_sizes: SmallVec<[BucketId; 2]>,
    /// Whether an override blocks every call of the caller.
    pub is_blocked: bool,
    /// The current period, for a calendar quota.
    pub calendar_period: Option<CalendarPeriod>,
    /// The longest time that a call waits for the bucket before it is refused, in microseconds.
    pub wait_max: u64,
    /// By how many tokens a window may exceed the limit because replicas lease tokens of this bucket; `None`
    /// if it is not leased.
    pub lease_excess: Option<u64>,
}

/// The current period of a calendar quota. The bucket earns nothing within it, and is full again in the next.
#[derive(Clone, Debug)]
pub struct CalendarPeriod {
    /// The period; empty in a plan that is not for one call.
    pub period: Period,
    /// How periods are counted.
    pub calendar: Arc<Calendar>,
}

impl CalendarPeriod {
    /// When the quota is full again, as local time in its time zone.
    #[must_use]
    pub fn local_end(&self) -> String {
        self.calendar.format_local(self.period.end)
    }
}

impl PlannedBucket {
    /// Whether the bucket belongs to one user or one value of a claim, argument or header.
    pub(crate) fn is_individual(&self) -> bool {
        !matches!(self.scope, LimitScope::Server | LimitScope::Tool)
    }

    /// The time at which to compute the level: `now`, or the start of the current calendar period.
    pub(crate) fn bucket_time(&self, now: Micros) -> Micros {
        self.calendar_period.as_ref().map_or(now, |resets| resets.period.start)
    }

    /// The state of the bucket before a call, given its level in units. The clock gives the time until a
    /// calendar period ends.
    pub(crate) fn snapshot(&self, level: i64, clock: &dyn Clock) -> BucketSnapshot {
        let duration = |resets: &CalendarPeriod| resets.period.end.since(clock.time_of_day());
        BucketSnapshot {
            rate: self.rate,
            level,
            cost: self.cost_units,
            mode: self.mode,
            resets_in: self.calendar_period.as_ref().map(duration),
        }
    }
}

/// One slot limit: a bound on the number of in-flight calls.
#[derive(Clone, Debug)]
pub struct PlannedSlotLimit {
    /// The definition.
    pub id: BucketId,
    /// The key of the limit, the same on every replica. A user's digest is appended for per-user limits.
    pub key: Arc<str>,
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// The scope of the limit.
    pub scope: LimitScope,
    /// The largest number of calls in flight.
    pub count_max: NonZeroU32,
    /// Whether the limit refuses a call when it is full, or is in shadow mode.
    pub mode: Mode,
    /// The counter of a limit that all callers share; `None` for a per-user limit.
    pub shared_count: Option<Arc<AtomicU32>>,
    /// The longest time that a call waits for a slot before it is refused, in microseconds.
    pub wait_max: u64,
}

/// Everything that a call of one tool is charged to.
///
/// The order decides which limit a refusal names: server, tool, user, then user and tool. Among shared
/// buckets it is also the lock order: any two plans list the buckets that they have in common in the same
/// order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The buckets.
    pub buckets: SmallVec<[PlannedBucket; 4]>,
    /// The slot limits: bounds on in-flight calls.
    pub slot_limits: SmallVec<[PlannedSlotLimit; 2]>,
    /// Whether the plan needs the identity of the caller.
    pub needs_user: bool,
    /// Whether a per-user limit is enforced for at least some callers, so that the user needs an entry in the
    /// user table.
    pub needs_user_entry: bool,
    /// Whether a per-user limit is in shadow mode for all callers, so that the user needs an entry in the
    /// shadow user table.
    pub needs_shadow_user_entry: bool,
    /// Whether a call may wait for any of the limits.
    pub may_wait: bool,
    /// What makes calls of the tool differ to the limits.
    pub variation_inputs: VariationInputs,
}

/// The request that is limited.
#[derive(Clone, Debug)]
pub(crate) enum LimitedRequest {
    /// A call of a tool.
    Tool(Box<Tool>),
    /// A request of another method.
    Method(Method),
}

impl LimitedRequest {
    /// The operation that a refusal names.
    pub(crate) fn limited(&self) -> LimitedOperation {
        match self {
            Self::Tool(tool) => LimitedOperation::Tool(tool.name.clone()),
            Self::Method(method) => LimitedOperation::Method(method.as_str()),
        }
    }

    /// The tool that is called.
    pub(crate) fn tool(&self) -> Option<&Tool> {
        match self {
            Self::Tool(tool) => Some(tool),
            Self::Method(_) => None,
        }
    }
}

impl Plan {
    /// Whether any bucket or slot limit is enforced.
    #[must_use]
    pub fn has_enforced(&self) -> bool {
        let slots = self.slot_limits.iter().map(|slots| slots.mode);
        self.buckets.iter().map(|bucket| bucket.mode).chain(slots).any(|mode| mode == Mode::Enforce)
    }

    /// Whether any slot limit is enforced.
    pub(crate) fn has_enforced_slot_limit(&self) -> bool {
        self.slot_limits.iter().any(|slots| slots.mode == Mode::Enforce)
    }

    /// Whether any per-user bucket or per-user slot limit is enforced.
    #[must_use]
    pub fn has_enforced_per_user(&self) -> bool {
        let is_own = |bucket: &&PlannedBucket| bucket.storage.is_per_user();
        let slots =
            self.slot_limits.iter().filter(|slots| slots.shared_count.is_none()).map(|slots| slots.mode);
        self.buckets
            .iter()
            .filter(is_own)
            .map(|bucket| bucket.mode)
            .chain(slots)
            .any(|mode| mode == Mode::Enforce)
    }

    /// The scope of each enforced bucket.
    pub(crate) fn enforced_scopes(&self) -> impl Iterator<Item = LimitScope> {
        self.buckets.iter().filter(|bucket| bucket.mode == Mode::Enforce).map(|bucket| bucket.scope)
    }

    /// True if nothing limits the request.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.slot_limits.is_empty()
    }
}
