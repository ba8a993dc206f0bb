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

pub use blocks::{BLOCK_COUNT_MAX, BLOCK_MAX, Blocks};
pub use calendar::{Calendar, CalendarError, Per, Period};
pub use clock::{Clock, ManualClock, Micros, SystemClock};
pub use decide::{Bill, BucketReading, Refused, Wait};
pub use layer::{LimitsResource, MethodsRateLimited, RateLimited, VirtualRateLimited};
pub use levels::{Levels, LevelsError};
pub use limiter::{
    Act, BucketView, Limiter, LimiterState, Replay, ReplayCaller, ReplayPass, ReplayTool, Reserver, Rules,
    Ruling, Sharing, SlotsView, StoreState,
};
pub use memory::{Claim, MemoryStore, Receipt};
pub use observer::{DecisionEvent, NoObserver, Observer, WaitEnd};
pub use pattern::Pattern;
pub use plan::{
    BucketId, Costs, Holder, KeptValue, KeptValues, NeededValue, Overridden, Plan, PlannedBucket,
    PlannedSlots, Planner, RulePrice, Variation, Varies,
};
pub use rate::{BucketState, Level, Payment, Rate, RateError};
pub use refund::RefundOn;
pub use remote::{
    Ask, COST_OF_ANY_CALL, CallName, Change, Connection, DECISION_DEADLINE, FormerKeys, OnStoreFailure,
    Order, RemoteBucket, RemoteSlots, RemoteStore, RemoteVerdict, SLOT_LEASE, SlotAsk, SlotReport, SlotStore,
    SlotVerdict, StoreFailure, Taken, user_digest,
};
pub use repeats::{LoopBreaker, LoopPolicy};
pub use table::UserKey;
pub use top::TopCaller;
