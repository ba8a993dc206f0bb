//! Which buckets a call of a tool is charged to. Rules name advertised tools; the buckets belong to the tool that
//! really runs, so that every name and every road that leads to it spends from the same ones.

pub(crate) mod call_values;
pub(crate) mod claims;
mod costs;
pub(crate) mod pattern;
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

use crate::bucket::calendar::{Calendar, Period};
use crate::bucket::decide::BucketSnapshot;
use crate::bucket::rate::{BucketState, Rate};
use crate::bucket::user_table::UserKey;
use crate::clock::{Clock, Micros};
use crate::plan::policy::{Method, Mode};
pub use crate::plan::variation::{
    BucketValue, BucketValues, OverriddenLimit, RequiredValue, Variation, VariationInputs,
};
pub use costs::{Costs, RulePrice};
pub(crate) use costs::{Settlement, UNPAYABLE};
pub use planner::Planner;
pub(crate) use planner::SavedDefinition;

/// Names one bucket definition for the life of the process: the same rule on the same tool has the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u32);

/// Where a bucket's level is kept.
#[derive(Clone, Debug)]
pub enum LevelStorage {
    /// One level for everybody; `None` until it is first spent from.
    Shared(Arc<Mutex<Option<BucketState>>>),
    /// One level for each user, in the users' table.
    User,
    /// The same of a limit that is on trial for everybody, in a table of its own.
    ShadowUser,
}

impl LevelStorage {
    /// True for a level of each user.
    #[must_use]
    pub fn is_per_user(&self) -> bool {
        matches!(self, Self::User | Self::ShadowUser)
    }
}

/// From the wide to the narrow, then by rule, by claim and by window.
pub(crate) type LockRank = (u8, u32, u32, u32);

/// Which window of a limit a bucket is of. Key layout 2 named buckets by it; see [`crate::LegacyKeys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegacyWindow {
    /// Its place among the windows of the limit.
    pub(crate) index: u8,
    /// How many there are.
    pub(crate) count: u8,
    /// Where the period begins in the bucket's key, in bytes.
    pub(crate) period_offset: u16,
}

/// One bucket that a call is charged to.
#[derive(Clone, Debug)]
pub struct PlannedBucket {
    /// Which definition.
    pub id: BucketId,
    /// Its place in the order in which buckets are locked; the identifier comes after it.
    pub(crate) lock_rank: LockRank,
    /// What it belongs to, in words that are the same on every replica; a user's part is added for per-user buckets.
    pub key: Arc<str>,
    /// Which window of its limit it is of.
    pub(crate) legacy_window: LegacyWindow,
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// For whom it counts.
    pub scope: LimitScope,
    /// How it fills.
    pub rate: Rate,
    /// What a call costs, in tokens.
    pub cost: NonZeroU32,
    /// The same in units.
    pub cost_units: i64,
    /// What a refusal does.
    pub mode: Mode,
    /// Where its level is kept.
    pub storage: LevelStorage,
    /// The place of its rule, if that is on trial: the rule's price counts in this bucket besides those in force.
    pub shadow_rule: Option<u32>,
    /// For how many callers in a hundred it is enforced; `None` for all.
    pub percent: Option<NonZeroU8>,
    /// Whose claim it is for; `None` for buckets that are for everybody or for the user.
    pub owner: Option<UserKey>,
    /// The same user's bucket in the sizes that overrides give it, which are kept apart in this process.
    pub(crate) other_sizes: SmallVec<[BucketId; 2]>,
    /// An override allows the caller no call at all.
    pub is_blocked: bool,
    /// The period that it counts, for a quota by the calendar.
    pub calendar_period: Option<CalendarPeriod>,
    /// How long a call waits for it, in microseconds, before it is refused.
    pub wait_max: u64,
    /// How many tokens a window may hold in excess where replicas take tokens of it ahead; `None` where they do not.
    pub lease_excess: Option<u64>,
}

/// The period of a bucket that earns nothing in it, and is full again in the next.
#[derive(Clone, Debug)]
pub struct CalendarPeriod {
    /// The period; of no length in a plan that is not for one call.
    pub period: Period,
    /// How periods are counted.
    pub calendar: Arc<Calendar>,
}

impl CalendarPeriod {
    /// When it is full again, as people where the period is counted write it.
    #[must_use]
    pub fn local_end(&self) -> String {
        self.calendar.format_local(self.period.end)
    }
}

impl PlannedBucket {
    /// Whether it is kept for one user or one value of a claim.
    pub(crate) fn is_individual(&self) -> bool {
        !matches!(self.scope, LimitScope::Server | LimitScope::Tool)
    }

    /// The time that it goes by: `now`, or the first moment of its period.
    pub(crate) fn bucket_time(&self, now: Micros) -> Micros {
        self.calendar_period.as_ref().map_or(now, |resets| resets.period.start)
    }

    /// What it holds before a call, in units. The clock tells how long a period still lasts.
    pub(crate) fn snapshot(&self, level: i64, clock: &dyn Clock) -> BucketSnapshot {
        let lasts = |resets: &CalendarPeriod| resets.period.end.since(clock.time_of_day());
        BucketSnapshot {
            rate: self.rate,
            level,
            cost: self.cost_units,
            mode: self.mode,
            resets_in: self.calendar_period.as_ref().map(lasts),
        }
    }
}

/// One bound on calls in flight.
#[derive(Clone, Debug)]
pub struct PlannedSlotLimit {
    /// Which definition.
    pub id: BucketId,
    /// What it belongs to, in words that are the same on every replica; a user's part is added for per-user bounds.
    pub key: Arc<str>,
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// For whom it counts.
    pub scope: LimitScope,
    /// The bound.
    pub count_max: NonZeroU32,
    /// What a refusal does.
    pub mode: Mode,
    /// The counter of a shared bound; `None` for one that is kept for each user.
    pub shared_count: Option<Arc<AtomicU32>>,
    /// How long a call waits for it, in microseconds, before it is refused.
    pub wait_max: u64,
}

/// Everything a call of one tool is charged to.
///
/// The order is that of blame (server, tool, user, user and tool) and, among shared buckets, the order in which
/// they are locked: any two plans list the buckets they have in common in the same order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The buckets.
    pub buckets: SmallVec<[PlannedBucket; 4]>,
    /// The bounds on calls in flight.
    pub slot_limits: SmallVec<[PlannedSlotLimit; 2]>,
    /// Whether the caller must be told apart from others.
    pub needs_user: bool,
    /// Whether some limit that is kept for each user is not only on trial.
    pub needs_user_entry: bool,
    /// Whether some limit that is kept for each user is on trial for everybody.
    pub needs_shadow_user_entry: bool,
    /// Whether a call may wait for any of it.
    pub may_wait: bool,
    /// What makes calls of the tool differ.
    pub variation_inputs: VariationInputs,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum LimitedRequest {
    /// A call of a tool.
    Tool(Box<Tool>),
    /// Something else.
    Method(Method),
}

impl LimitedRequest {
    /// What the limits on it are called after.
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
    /// Whether any of it refuses.
    #[must_use]
    pub fn has_enforced(&self) -> bool {
        let slots = self.slot_limits.iter().map(|slots| slots.mode);
        self.buckets.iter().map(|bucket| bucket.mode).chain(slots).any(|mode| mode == Mode::Enforce)
    }

    /// Whether a bound on calls in flight refuses.
    pub(crate) fn has_enforced_slot_limit(&self) -> bool {
        self.slot_limits.iter().any(|slots| slots.mode == Mode::Enforce)
    }

    /// Whether any of it refuses by what it knows of the caller.
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

    /// For whom each bucket counts that may refuse.
    pub(crate) fn enforced_scopes(&self) -> impl Iterator<Item = LimitScope> {
        self.buckets.iter().filter(|bucket| bucket.mode == Mode::Enforce).map(|bucket| bucket.scope)
    }

    /// True when nothing limits the tool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.slot_limits.is_empty()
    }
}
