//! Rate limits on tool calls and other requests: token buckets, slots (bounds on in-flight calls), the pure
//! decision, the in-memory store, and the gateway decorators that charge real calls.
//!
//! A call is charged by the tool that really runs and by the authenticated caller. All buckets of a call are
//! checked together, and either all of them are spent from or none. `vmcp-wire` decides how a refusal looks
//! to a client; `vmcp-ratelimit-redis` implements the store that replicas share.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use vmcp_domain::Error;
//! use vmcp_ratelimit::policy::{LimitPolicy, Limits, Mode, Quota};
//! use vmcp_ratelimit::{Limiter, NoObserver, Planner, Rate, RateLimited};
//! use vmcp_testkit::{FakeGateway, conformance::tool_call, context, tool};
//! use vmcp_timing::ManualClock;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! // Two calls a minute for all callers together.
//! let rate = Rate::new(2, Duration::from_secs(60), 2)?;
//! let shared = Some(Quota::new(vec![rate], Mode::Enforce));
//! let policy = LimitPolicy { server: Limits { shared, ..Limits::default() }, ..LimitPolicy::default() };
//! let clock = Arc::new(ManualClock::default());
//! let limiter = Limiter::new(Arc::new(Planner::new(policy)), clock.clone(), None, Arc::new(NoObserver));
//! let gateway = RateLimited::wrap(FakeGateway::new(vec![tool("files", "read", "files_read")]), limiter);
//!
//! let ctx = context();
//! assert!(gateway.call_tool(&ctx, tool_call("files_read")).await.is_ok());
//! assert!(gateway.call_tool(&ctx, tool_call("files_read")).await.is_ok());
//! let refused = gateway.call_tool(&ctx, tool_call("files_read")).await;
//! assert!(matches!(refused, Err(Error::RateLimited(_))));
//! // One token is back after half a minute.
//! clock.advance_secs(30);
//! assert!(gateway.call_tool(&ctx, tool_call("files_read")).await.is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })
//! # }
//! ```

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
pub use layer::{FailureCharge, LimitsResource, MethodsRateLimited, RateLimited, VirtualRateLimited};
pub use limiter::{
    BucketView, Limiter, LimiterStatus, OperatorAction, Replay, ReplayCaller, ReplayDecision, ReplayPermit,
    ReplayTool, Reserver, RulesView, Sharing, SlotLimitView, StoreStatus,
};
pub use plan::{
    BucketId, BucketValue, BucketValues, Costs, LevelStorage, OverriddenLimit, Plan, PlannedBucket,
    PlannedSlotLimit, Planner, RequiredValue, RulePrice, Variation, VariationInputs,
};
