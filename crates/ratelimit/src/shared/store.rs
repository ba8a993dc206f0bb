//! The contract of a store that several replicas share: `vmcp-ratelimit-redis` implements it.
//! Which buckets a call is charged to, and what happens when the store fails, is decided here.

pub(crate) mod legacy_keys;
pub(crate) mod slot_store;

use std::sync::Arc;
use std::time::Duration;

use sha2::Digest;
use smallvec::SmallVec;
use vmcp_domain::{BoxFuture, Identity};

use crate::bucket::calendar::Period;
use crate::bucket::rate::Rate;
use crate::clock::Micros;
use crate::plan::policy::Mode;
use crate::plan::{LevelStorage, Plan};
use crate::shared::blocks::Blocks;

pub use crate::shared::store::legacy_keys::LegacyKeys;
pub use crate::shared::store::slot_store::{
    CallId, RemoteSlotLimit, SLOT_LEASE, SlotReport, SlotRequest, SlotStore, SlotVerdict, StoreConnection,
};
pub(crate) use crate::shared::store::slot_store::{SlotBatch, slot_batches};

/// One bucket of a decision, as a shared store sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteBucket {
    /// What the bucket belongs to, the same on every replica and free of the user's name.
    pub key: Arc<str>,
    /// How it fills.
    pub rate: Rate,
    /// What one call costs, in tokens.
    pub cost: u32,
    /// What a refusal does.
    pub mode: Mode,
    /// The place of its rule, if that is on trial; see [`crate::PlannedBucket::shadow_rule`].
    pub shadow_rule: Option<u32>,
    /// Whose place in a cluster it has; `None` for the one of all buckets of this gateway.
    pub partition: Option<Arc<str>>,
    /// The period that it counts, for one that earns nothing in it: it need not be kept for longer.
    pub period: Option<Period>,
    /// Where its level may still be found while its key is new; `None` when nothing older can be left.
    pub legacy_keys: Option<Arc<LegacyKeys>>,
}

impl RemoteBucket {
    /// The time that it goes by: `now`, or the first moment of its period.
    #[must_use]
    pub fn bucket_time(&self, now: Micros) -> Micros {
        self.period.map_or(now, |period| period.start)
    }
}

/// The cost of a bucket in a change by an operator, which is bounded by no payment: it may end the deepest debt.
pub const COST_OF_ANY_CALL: u32 = u32::MAX;

/// A change of what a call was charged, for one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// The bucket, with what was paid for the call as its cost, or [`COST_OF_ANY_CALL`].
    pub bucket: RemoteBucket,
    /// Tokens that are charged in addition, or given back where they are less than none.
    pub tokens: i64,
    /// When the call paid, by the clock of the store. Nothing is given back where that is not known.
    pub paid_at: Option<Micros>,
}

/// How many tokens a replica takes out of a bucket, to spend them by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakeRequest {
    /// With fewer than this it can do nothing, so that it takes none then.
    pub min_useful: u64,
    /// What calls wait for: taken even if that empties the bucket.
    pub need: u64,
    /// What it would like to have.
    pub want: u64,
    /// Beyond `need` it takes one part of so many of what the bucket holds.
    pub share_divisor: u32,
}

/// What a replica got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeGrant {
    /// The tokens, which the bucket does not hold any more.
    pub tokens: u64,
    /// What the bucket holds after that, in units.
    pub level: i64,
    /// When, by the clock of the store.
    pub at: Micros,
}

/// Every bucket of one call, in the order of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdmitRequest {
    /// The buckets.
    pub buckets: SmallVec<[RemoteBucket; 4]>,
}

/// What the store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteVerdict {
    /// Whether every enforced bucket paid. If not, nothing was spent.
    pub admitted: bool,
    /// What each bucket holds after the decision, in units, in the order of the ask.
    pub levels: SmallVec<[i64; 4]>,
    /// For each bucket, whether it paid. A shadow bucket that could not is not charged.
    pub pays: SmallVec<[bool; 4]>,
    /// When, by the clock of the store.
    pub at: Micros,
}

impl RemoteVerdict {
    /// The verdict about no bucket at all.
    pub(crate) fn empty() -> Self {
        Self { admitted: true, levels: SmallVec::new(), pays: SmallVec::new(), at: Micros::default() }
    }
}

/// Why the store did not answer. Whether the tokens were spent is not known then; they are never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreFailure {
    /// No answer within the decision's deadline.
    #[error("no answer in time")]
    Timeout,
    /// There is no connection.
    #[error("not connected")]
    Disconnected,
    /// The store answered with an error (read-only replica, out of memory, …).
    #[error("the store refused")]
    Refused,
    /// Recent failures: the store is given time before it is asked again.
    #[error("the store is given time after failures")]
    CircuitOpen,
    /// Too many calls of this replica wait to ask the same. The store is well.
    #[error("too many calls ask the same")]
    Overloaded,
}

impl StoreFailure {
    /// The failure's label in metrics: the reference's `error_type`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Disconnected => "connection",
            Self::Refused => "other",
            Self::CircuitOpen => "breaker",
            Self::Overloaded => "overloaded",
        }
    }
}

/// A store that several replicas share. Every method answers within the store's own deadline.
pub trait RemoteStore: SlotStore {
    /// Checks all buckets together and spends from all or none.
    fn admit<'a>(&'a self, ask: &'a AdmitRequest) -> BoxFuture<'a, Result<RemoteVerdict, StoreFailure>>;
    /// The verdict on a question that is certain to be refused, without asking; `None` where one must ask to know.
    fn known_refusal(&self, _ask: &AdmitRequest) -> Option<RemoteVerdict> {
        None
    }
    /// Changes what calls were charged, all of it or nothing. The buckets have one home. A level may go below zero, to minus
    /// the capacity at most; no bucket is given back more than it would hold in addition if the call had never paid, see
    /// [`crate::BucketState::refundable`].
    fn adjust<'a>(&'a self, changes: &'a [Adjustment]) -> BoxFuture<'a, Result<(), StoreFailure>>;
    /// What each bucket holds now, in units; spends nothing.
    fn peek<'a>(&'a self, ask: &'a AdmitRequest) -> BoxFuture<'a, Result<SmallVec<[i64; 4]>, StoreFailure>>;
    /// Takes tokens out of one bucket ahead of the calls that will spend them.
    fn take<'a>(
        &'a self,
        bucket: &'a RemoteBucket,
        order: TakeRequest,
    ) -> BoxFuture<'a, Result<TakeGrant, StoreFailure>>;
    /// How many replicas share the store now, this one included, where that is known.
    fn replica_count(&self) -> Option<u32>;
    /// For how long all replicas have kept buckets under their present keys. Levels that fill up in less are nowhere else.
    /// `None` where that is not known.
    fn key_age(&self) -> Option<Duration> {
        Some(Duration::MAX)
    }
    /// What operators have blocked, as all replicas know it; `None` for a store that keeps no blocks.
    fn blocks(&self) -> Option<Arc<Blocks>> {
        None
    }
    /// Blocks something for so long, or lifts the block. False when there are too many blocks.
    fn block<'a>(
        &'a self,
        _name: &'a str,
        _lasts: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreFailure>> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// What an operator should change in its settings, each a sentence.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// True while the store answers.
    fn is_available(&self) -> bool;
}

/// What happens to calls when the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnStoreFailure {
    /// This replica enforces its share of every limit by itself.
    #[default]
    Local,
    /// Calls pass.
    Allow,
    /// Calls are refused.
    Deny,
}

/// How long the store is to be asked for one decision, if nothing else is said.
pub const DECISION_DEADLINE: Duration = Duration::from_millis(50);

/// A user's part of keys in a shared store: the same on every replica, and not the user's name.
#[must_use]
pub fn user_digest(identity: &Identity) -> String {
    let mut hasher = sha2::Sha256::new();
    hasher.update(identity.issuer.as_bytes());
    // Neither an issuer nor a subject contains NUL in any scheme, so no two pairs give the same bytes.
    hasher.update([0]);
    hasher.update(identity.subject.as_bytes());
    let digest = hasher.finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The caller as a shared store tells callers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedUser {
    /// See [`user_digest`].
    pub(crate) digest: String,
    /// The subject, while buckets may have levels that the reference wrote: it names users in keys.
    pub(crate) subject: Option<String>,
}

/// The buckets of a plan that stand in one place of a shared store, for one user.
#[derive(Clone, Debug)]
pub(crate) struct StoreBatch {
    /// Their places in the plan.
    pub(crate) indices: SmallVec<[usize; 4]>,
    /// The question about them.
    pub(crate) request: AdmitRequest,
}

/// How a plan is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanView<'a> {
    /// The user's part of keys.
    pub(crate) user: Option<&'a SharedUser>,
    /// Each user's buckets stand in a place of their own.
    pub(crate) split_by_user: bool,
    /// Leave out the buckets of which tokens are taken ahead.
    pub(crate) without_leased: bool,
    /// Buckets may have levels under former keys.
    pub(crate) has_legacy_keys: bool,
}

/// The questions about a plan: those that can be answered together are one.
pub(crate) fn store_batches(plan: &Plan, cut: PlanView<'_>) -> SmallVec<[StoreBatch; 2]> {
    let home: Option<Arc<str>> = cut.user.filter(|_| cut.split_by_user).map(|user| (*user.digest).into());
    let mut parts: SmallVec<[StoreBatch; 2]> = SmallVec::new();
    for (place, planned) in plan.buckets.iter().enumerate() {
        // Without a user nobody can say which bucket it is; only a rule on trial lets such a call pass.
        let is_nobodys = planned.storage.is_per_user() && cut.user.is_none();
        if is_nobodys || (cut.without_leased && planned.lease_excess.is_some()) {
            continue;
        }
        let mut bucket = remote_bucket(planned, cut.user, home.as_ref());
        if cut.has_legacy_keys && planned.calendar_period.is_none() {
            bucket.legacy_keys =
                Some(Arc::new(LegacyKeys::for_bucket(planned, cut.user, bucket.partition.is_some())));
        }
        // Shared buckets come first in a plan, so that those of one place stand side by side.
        match parts
            .last_mut()
            .filter(|part| part.request.buckets.last().is_some_and(|last| last.partition == bucket.partition))
        {
            Some(part) => {
                part.indices.push(place);
                part.request.buckets.push(bucket);
            }
            None => parts.push(StoreBatch {
                indices: std::iter::once(place).collect(),
                request: AdmitRequest { buckets: std::iter::once(bucket).collect() },
            }),
        }
    }
    parts
}

/// One bucket of a plan as the shared store knows it.
pub(crate) fn remote_bucket(
    bucket: &crate::plan::PlannedBucket,
    user: Option<&SharedUser>,
    home: Option<&Arc<str>>,
) -> RemoteBucket {
    let (key, home) = match (&bucket.storage, user) {
        (LevelStorage::User | LevelStorage::ShadowUser, Some(user)) => {
            (format!("{}:{}", bucket.key, user.digest).into(), home.cloned())
        }
        (LevelStorage::User | LevelStorage::ShadowUser, None) | (LevelStorage::Shared(_), _) => {
            (bucket.key.clone(), None)
        }
    };
    let (cost, mode, trial) = (bucket.cost.get(), bucket.mode, bucket.shadow_rule);
    let period = bucket.calendar_period.as_ref().map(|resets| resets.period);
    RemoteBucket {
        key,
        rate: bucket.rate,
        cost,
        mode,
        shadow_rule: trial,
        partition: home,
        period,
        legacy_keys: None,
    }
}
