//! The contract of a store that several replicas share; `vmcp-ratelimit-redis` implements it. This crate
//! decides which buckets a call is charged to, and what happens when the store fails.

pub(crate) mod legacy_keys;
pub(crate) mod slot_store;

use std::sync::Arc;
use std::time::Duration;

use sha2::Digest;
use smallvec::SmallVec;
use vmcp_domain::{BoxFuture, Identity};
use vmcp_timing::Micros;

use crate::bucket::calendar::Period;
use crate::bucket::rate::Rate;
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
    /// The key of the bucket, the same on every replica. It does not contain the user's name.
    pub key: Arc<str>,
    /// The refill rate and the capacity.
    pub rate: Rate,
    /// What one call costs, in tokens.
    pub cost: u32,
    /// Whether the bucket refuses a call that it cannot pay, or is in shadow mode.
    pub mode: Mode,
    /// The index of its rule, if that is in shadow mode; see [`crate::PlannedBucket::shadow_rule`].
    pub shadow_rule: Option<u32>,
    /// Its partition in a cluster; `None` for the common partition of this gateway's buckets.
    pub partition: Option<Arc<str>>,
    /// The current period of a calendar quota. The bucket need not be kept for longer.
    pub period: Option<Period>,
    /// Where its level may still be found if its present key does not exist; `None` if no older level can be
    /// left.
    pub legacy_keys: Option<Arc<LegacyKeys>>,
}

impl RemoteBucket {
    /// The time at which to compute the level: `now`, or the start of the current calendar period.
    #[must_use]
    pub fn bucket_time(&self, now: Micros) -> Micros {
        self.period.map_or(now, |period| period.start)
    }
}

/// The cost in an adjustment by an operator. No payment bounds such an adjustment, so it may clear the
/// deepest debt.
pub const COST_OF_ANY_CALL: u32 = u32::MAX;

/// A change of what a call was charged in one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// The bucket; its cost is what the call paid, or [`COST_OF_ANY_CALL`].
    pub bucket: RemoteBucket,
    /// Tokens to charge in addition; a negative number is a refund.
    pub tokens: i64,
    /// When the call paid, by the clock of the store. Without it nothing is refunded.
    pub paid_at: Option<Micros>,
}

/// How many tokens a replica takes out of a bucket for its leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakeRequest {
    /// With fewer tokens than this the replica can do nothing, so it takes none then.
    pub min_useful: u64,
    /// What calls wait for, in tokens; taken even if that empties the bucket.
    pub need: u64,
    /// What the replica would like to have, in tokens.
    pub want: u64,
    /// A grant above `need` is at most the bucket's level divided by this number.
    pub share_divisor: u32,
}

/// The tokens that a replica got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeGrant {
    /// The tokens, which the bucket no longer holds.
    pub tokens: u64,
    /// The level of the bucket after that, in units.
    pub level: i64,
    /// When they were taken, by the clock of the store.
    pub at: Micros,
}

/// Every bucket of one call, in the order of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdmitRequest {
    /// The buckets.
    pub buckets: SmallVec<[RemoteBucket; 4]>,
}

/// The verdict of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteVerdict {
    /// Whether every enforced bucket paid. If not, nothing was spent.
    pub admitted: bool,
    /// The level of each bucket after the decision, in units, in the order of the request.
    pub levels: SmallVec<[i64; 4]>,
    /// For each bucket, whether it paid. A bucket in shadow mode that could not pay is not charged.
    pub pays: SmallVec<[bool; 4]>,
    /// When the store decided, by its clock.
    pub at: Micros,
}

impl RemoteVerdict {
    /// The verdict on a request without buckets: admitted.
    pub(crate) fn empty() -> Self {
        Self { admitted: true, levels: SmallVec::new(), pays: SmallVec::new(), at: Micros::default() }
    }
}

/// Why the store did not answer. It is unknown then whether the tokens were spent; they are never given out
/// twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreFailure {
    /// No reply before the deadline of the decision.
    #[error("no answer in time")]
    Timeout,
    /// There is no connection.
    #[error("not connected")]
    Disconnected,
    /// The store answered with an error (read-only replica, out of memory, …).
    #[error("the store refused")]
    Refused,
    /// The circuit is open after recent failures: the store is not asked for a while.
    #[error("the circuit of the store is open after failures")]
    CircuitOpen,
    /// Too many calls of this replica wait to send the same request. The store itself works.
    #[error("too many calls ask the same")]
    Overloaded,
}

impl StoreFailure {
    /// The failure's label in metrics: the `error_type` of the reference implementation.
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

/// A store that several replicas share. Every method returns within the store's own deadline.
pub trait RemoteStore: SlotStore {
    /// Checks all buckets together and spends from all or none.
    fn admit<'a>(&'a self, ask: &'a AdmitRequest) -> BoxFuture<'a, Result<RemoteVerdict, StoreFailure>>;
    /// The verdict on a request that is certain to be refused, without a request to the store; `None` if only
    /// the store can decide.
    fn known_refusal(&self, _ask: &AdmitRequest) -> Option<RemoteVerdict> {
        None
    }
    /// Changes what calls were charged, all of it or nothing. The buckets must have the same partition. A
    /// level may become negative, down to minus the capacity. No bucket gets a refund above what it would
    /// hold in addition if the call had never paid, see [`crate::BucketState::refundable`].
    fn adjust<'a>(&'a self, changes: &'a [Adjustment]) -> BoxFuture<'a, Result<(), StoreFailure>>;
    /// The level of each bucket now, in units; spends nothing.
    fn peek<'a>(&'a self, ask: &'a AdmitRequest) -> BoxFuture<'a, Result<SmallVec<[i64; 4]>, StoreFailure>>;
    /// Takes tokens out of one bucket ahead of the calls that will spend them.
    fn take<'a>(
        &'a self,
        bucket: &'a RemoteBucket,
        order: TakeRequest,
    ) -> BoxFuture<'a, Result<TakeGrant, StoreFailure>>;
    /// How many replicas share the store now, including this one; `None` if that is unknown.
    fn replica_count(&self) -> Option<u32>;
    /// How long all replicas have used the present keys of buckets; `None` if that is unknown. A bucket that
    /// fills up in less time has no level left under a legacy key.
    fn key_age(&self) -> Option<Duration> {
        Some(Duration::MAX)
    }
    /// The blocks of operators as all replicas know them; `None` for a store that keeps no blocks.
    fn blocks(&self) -> Option<Arc<Blocks>> {
        None
    }
    /// Sets the block `name` for a duration, or lifts it. Returns false if there are too many blocks, or if
    /// the store keeps none.
    fn block<'a>(
        &'a self,
        _name: &'a str,
        _lasts: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreFailure>> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// What an operator should change in the store's settings, each as a sentence.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// True while the store answers.
    fn is_available(&self) -> bool;
}

/// What happens to calls if the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnStoreFailure {
    /// Fallback: this replica alone enforces its share of every limit.
    #[default]
    Local,
    /// Calls pass.
    Allow,
    /// Calls are refused.
    Deny,
}

/// The default deadline of one decision by the store.
pub const DECISION_DEADLINE: Duration = Duration::from_millis(50);

/// A user's part of keys in a shared store: the first 16 bytes of a SHA-256 digest of issuer and subject, in
/// hexadecimal. It is the same on every replica and does not contain the user's name.
#[must_use]
pub fn user_digest(identity: &Identity) -> String {
    let mut hasher = sha2::Sha256::new();
    hasher.update(identity.issuer.as_bytes());
    // No scheme allows NUL in an issuer or a subject, so no two pairs give the same bytes.
    hasher.update([0]);
    hasher.update(identity.subject.as_bytes());
    let digest = hasher.finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The caller as a shared store identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedUser {
    /// See [`user_digest`].
    pub(crate) digest: String,
    /// The subject, while buckets may have levels under keys of the reference implementation, which contain
    /// the subject.
    pub(crate) subject: Option<String>,
}

/// The buckets of a plan that have the same partition of a shared store, for one user.
#[derive(Clone, Debug)]
pub(crate) struct StoreBatch {
    /// Their indices in the plan.
    pub(crate) indices: SmallVec<[usize; 4]>,
    /// The request about them.
    pub(crate) request: AdmitRequest,
}

/// Which buckets of a plan to request, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanView<'a> {
    /// The user, who is part of the keys.
    pub(crate) user: Option<&'a SharedUser>,
    /// Whether each user's buckets have a partition of their own.
    pub(crate) split_by_user: bool,
    /// Whether to leave out leased buckets.
    pub(crate) without_leased: bool,
    /// Whether buckets may have levels under legacy keys.
    pub(crate) has_legacy_keys: bool,
}

/// The requests for a plan: buckets that can be decided together are in one request.
pub(crate) fn store_batches(plan: &Plan, view: PlanView<'_>) -> SmallVec<[StoreBatch; 2]> {
    let partition: Option<Arc<str>> =
        view.user.filter(|_| view.split_by_user).map(|user| (*user.digest).into());
    let mut batches: SmallVec<[StoreBatch; 2]> = SmallVec::new();
    for (index, planned) in plan.buckets.iter().enumerate() {
        // The key of a per-user bucket is unknown without a user. Only a limit in shadow mode lets such a
        // call pass.
        let has_no_key = planned.storage.is_per_user() && view.user.is_none();
        if has_no_key || (view.without_leased && planned.lease_excess.is_some()) {
            continue;
        }
        let mut bucket = remote_bucket(planned, view.user, partition.as_ref());
        if view.has_legacy_keys && planned.calendar_period.is_none() {
            bucket.legacy_keys =
                Some(Arc::new(LegacyKeys::for_bucket(planned, view.user, bucket.partition.is_some())));
        }
        // Shared buckets come first in a plan, so the buckets of one partition are adjacent.
        match batches.last_mut().filter(|batch| {
            batch.request.buckets.last().is_some_and(|last| last.partition == bucket.partition)
        }) {
            Some(batch) => {
                batch.indices.push(index);
                batch.request.buckets.push(bucket);
            }
            None => batches.push(StoreBatch {
                indices: std::iter::once(index).collect(),
                request: AdmitRequest { buckets: std::iter::once(bucket).collect() },
            }),
        }
    }
    batches
}

/// One bucket of a plan as the shared store knows it.
pub(crate) fn remote_bucket(
    bucket: &crate::plan::PlannedBucket,
    user: Option<&SharedUser>,
    partition: Option<&Arc<str>>,
) -> RemoteBucket {
    let (key, partition) = match (&bucket.storage, user) {
        (LevelStorage::User | LevelStorage::ShadowUser, Some(user)) => {
            (format!("{}:{}", bucket.key, user.digest).into(), partition.cloned())
        }
        (LevelStorage::User | LevelStorage::ShadowUser, None) | (LevelStorage::Shared(_), _) => {
            (bucket.key.clone(), None)
        }
    };
    let (cost, mode, shadow_rule) = (bucket.cost.get(), bucket.mode, bucket.shadow_rule);
    let period = bucket.calendar_period.as_ref().map(|resets| resets.period);
    RemoteBucket { key, rate: bucket.rate, cost, mode, shadow_rule, partition, period, legacy_keys: None }
}
