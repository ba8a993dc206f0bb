//! Rate limits on tool calls and other requests: token buckets, slots (bounds on in-flight calls), the pure
//! decision, the in-memory store, and the gateway decorators that charge real calls.
//!
//! A call is charged by the tool that really runs and by the authenticated caller. All buckets of a call are
//! checked together, and either all of them are spent from or none. `vmcp-wire` decides how a refusal looks
//! to a client; `vmcp-ratelimit-redis` implements the store that replicas share.

#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm, reason = "tests name the one case they expect"))]

mod bucket;
mod layer;
mod limiter;
mod plan;
mod queue;
mod shared;
mod task_spawner;

pub use crate::bucket::calendar::{Calendar, CalendarError, Period, PeriodUnit};
pub use crate::bucket::decide::{BucketRefusal, BucketSnapshot, Charges, Wait};
pub use crate::bucket::memory_store::{AdmitOutcome, MemoryStore, Receipt};
pub use crate::bucket::rate::{BucketState, Level, Payment, Rate, RateError};
pub use crate::bucket::saved_levels::{SavedLevels, SavedLevelsError};
pub use crate::bucket::user_key::UserKey;
pub use crate::limiter::inspect::top_callers::TopCaller;
pub use crate::limiter::observer::{DecisionEvent, NoObserver, Observer, WaitOutcome};
pub use crate::plan::policy;
pub use crate::plan::policy::refund::RefundOn;
pub use crate::shared::blocks::{BLOCK_COUNT_MAX, BLOCK_DURATION_MAX, Blocks};
pub use crate::shared::lease;
pub use crate::shared::store::{
    Adjustment, AdmitRequest, COST_OF_ANY_CALL, CallId, DECISION_DEADLINE, LegacyKeys, OnStoreFailure,
    RemoteBucket, RemoteSlotLimit, RemoteStore, RemoteVerdict, SLOT_LEASE, SlotReport, SlotRequest,
    SlotStore, SlotVerdict, StoreConnection, StoreFailure, TakeGrant, TakeRequest, user_digest,
};
pub use layer::{LimitsResource, MethodsRateLimited, RateLimited, VirtualRateLimited};
pub use limiter::{
    BucketView, Limiter, LimiterStatus, OperatorAction, Replay, ReplayCaller, ReplayDecision, ReplayPermit,
    ReplayTool, Reserver, RulesView, Sharing, SlotLimitView, StoreStatus,
};
pub use plan::{
    BucketId, BucketValue, BucketValues, Costs, LevelStorage, OverriddenLimit, Plan, PlannedBucket,
    PlannedSlotLimit, Planner, RequiredValue, RulePrice, Variation, VariationInputs,
};
