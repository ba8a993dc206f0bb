//! How often may they: quotas, the pure decision, the in-memory store, and the decorator that charges real calls.
//!
//! A call is charged by the tool that really runs and the caller who really asks. All buckets of a call are checked
//! together and spent together or not at all. How a refusal looks to a client is `vmcp-wire`'s; sharing buckets
//! between replicas is `vmcp-ratelimit-redis`'s.

#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm, reason = "tests name the one case they expect"))]

mod blocks;
mod budget;
mod calendar;
mod call_values;
mod claims;
mod clock;
mod decide;
mod fallback;
mod layer;
pub mod lease;
mod levels;
mod limiter;
mod memory;
mod observer;
mod pattern;
mod plan;
pub mod policy;
mod price;
mod rate;
mod refund;
mod remote;
mod repeats;
mod slots;
mod table;
mod top;
mod upkeep;
mod waiting;

pub use blocks::{BLOCK_COUNT_MAX, BLOCK_DURATION_MAX, Blocks};
pub use calendar::{Calendar, CalendarError, Period, PeriodUnit};
pub use clock::{Clock, ManualClock, Micros, SystemClock};
pub use decide::{BucketRefusal, BucketSnapshot, Charges, Wait};
pub use layer::{LimitsResource, MethodsRateLimited, RateLimited, VirtualRateLimited};
pub use levels::{SavedLevels, SavedLevelsError};
pub use limiter::{
    BucketView, Limiter, LimiterStatus, OperatorAction, Replay, ReplayCaller, ReplayDecision, ReplayPermit,
    ReplayTool, Reserver, RulesView, Sharing, SlotLimitView, StoreStatus,
};
pub use memory::{AdmitOutcome, MemoryStore, Receipt};
pub use observer::{DecisionEvent, NoObserver, Observer, WaitOutcome};
pub use pattern::Pattern;
pub use plan::{
    BucketId, BucketValue, BucketValues, Costs, LevelStorage, OverriddenLimit, Plan, PlannedBucket,
    PlannedSlotLimit, Planner, RequiredValue, RulePrice, Variation, VariationInputs,
};
pub use rate::{BucketState, Level, Payment, Rate, RateError};
pub use refund::RefundOn;
pub use remote::{
    Adjustment, AdmitRequest, COST_OF_ANY_CALL, CallId, DECISION_DEADLINE, LegacyKeys, OnStoreFailure,
    RemoteBucket, RemoteSlotLimit, RemoteStore, RemoteVerdict, SLOT_LEASE, SlotReport, SlotRequest,
    SlotStore, SlotVerdict, StoreConnection, StoreFailure, TakeGrant, TakeRequest, user_digest,
};
pub use repeats::{LoopBreaker, LoopPolicy};
pub use table::UserKey;
pub use top::TopCaller;
