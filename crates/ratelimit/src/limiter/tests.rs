mod adversary;
mod debts;
mod leased;
mod outage;
mod quotas;
mod reports;
mod restart;
pub(crate) mod shadow;
mod shared_store;
mod sizes;
mod values;
pub(crate) mod variation;

use std::num::NonZeroU32;
use std::time::Duration;

use parking_lot::Mutex;
use vmcp_domain::{
    BoxFuture, CallContext, CallOrigin, Caller, Identity, LimitScope, NamePattern, RateLimit, Retry,
    SharedGateway,
};
use vmcp_json::Members;
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::{ManualClock, Micros};

use super::*;
use crate::bucket::rate::{BucketState, Payment, Rate};
use crate::layer::RateLimited;
use crate::limiter::observer::{NoObserver, Observer};
use crate::plan::policy::{
    Anonymous, Concurrency, Consistency, LeasePolicy, LimitPolicy, Limits, MemoryBounds, Mode, Quota,
    ToolRule, WaitBounds,
};
use crate::shared::slots::tests::FakeSlots;
use crate::shared::store::{Adjustment, RemoteBucket, SLOT_LEASE, StoreFailure, TakeGrant, TakeRequest};

pub(super) fn quota(tokens: u64, seconds: u64) -> Option<Quota> {
    let rate = Rate::new(tokens, Duration::from_secs(seconds), tokens).unwrap();
    Some(Quota::new(vec![rate], Mode::Enforce))
}

pub(super) fn policy(server: Limits, tools: Vec<ToolRule>, anonymous: Anonymous) -> LimitPolicy {
    LimitPolicy {
        server,
        tools,
        anonymous,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Exact,
        ..LimitPolicy::default()
    }
}

pub(super) fn rule(name: &str, shared: Option<Quota>, per_user: Option<Quota>) -> ToolRule {
    let limits = Limits { shared, per_user, ..Limits::default() };
    ToolRule {
        name: NamePattern::new(name),
        annotation: None,
        group: false,
        limits,
        cost: crate::plan::policy::Cost::default(),
    }
}

pub(super) fn known(issuer: &str, subject: &str) -> CallContext {
    let identity = Identity { issuer: issuer.into(), subject: subject.into(), claims: Members::new() };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

pub(super) struct Harness {
    clock: Arc<ManualClock>,
    pub(super) inner: Arc<FakeGateway>,
    pub(super) gateway: SharedGateway,
    pub(super) limiter: Arc<Limiter>,
}

pub(super) fn harness(policy: LimitPolicy, sharing: Option<Sharing>) -> Harness {
    harness_with_clock(Arc::new(ManualClock::default()), policy, sharing)
}

fn harness_with_clock(clock: Arc<ManualClock>, policy: LimitPolicy, sharing: Option<Sharing>) -> Harness {
    harness_with_observer(clock, policy, sharing, Arc::new(NoObserver))
}

fn harness_with_observer(
    clock: Arc<ManualClock>,
    policy: LimitPolicy,
    sharing: Option<Sharing>,
    observer: Arc<dyn Observer>,
) -> Harness {
    clock.set(Micros(1_000_000));
    let limiter = Limiter::new(Arc::new(Planner::new(policy)), clock.clone(), sharing, observer);
    let inner = FakeGateway::new(vec![
        tool("a", "search", "a_search"),
        tool("b", "search", "b_search"),
        tool("b", "hang", "hang"),
    ]);
    Harness { clock, gateway: RateLimited::wrap(inner.clone(), limiter.clone()), inner, limiter }
}

/// A harness whose limiter shares a fake store with a second replica.
fn harness_with_store(
    policy: LimitPolicy,
    on_failure: OnStoreFailure,
    observer: Arc<dyn Observer>,
) -> (Harness, Arc<FakeStore>) {
    let clock = Arc::new(ManualClock::default());
    let store = FakeStore::new(clock.clone());
    let sharing = Sharing { store: store.clone(), on_failure, replica_count: None, slot_lease: SLOT_LEASE };
    (harness_with_observer(clock, policy, Some(sharing), observer), store)
}

/// A policy with leases, under which each user's buckets have a partition of their own.
fn split_policy(server: Limits) -> LimitPolicy {
    let lease = LeasePolicy { duration: Duration::from_millis(100), hold_back: false };
    let base = policy(server, vec![], Anonymous::Refuse);
    LimitPolicy { consistency: Consistency::Split(lease), ..base }
}

async fn call(harness: &Harness, name: &str, ctx: &CallContext) -> Result<(), Error> {
    harness.gateway.call_tool(ctx, conformance::tool_call(name)).await.map(|_| ())
}

fn refused(outcome: Result<(), Error>) -> RateLimit {
    match outcome {
        Err(Error::RateLimited(refusal)) => *refusal,
        other => panic!("not a refusal by a limit: {other:?}"),
    }
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let limits = policy(Limits { shared: quota(1000, 1), ..Limits::default() }, vec![], Anonymous::Refuse);
    let limiter = Limiter::new(
        Arc::new(Planner::new(limits)),
        Arc::new(ManualClock::default()),
        None,
        Arc::new(NoObserver),
    );
    conformance::check_decorator(&[], |inner| RateLimited::wrap(inner, limiter.clone())).await;
}

#[tokio::test]
async fn the_tool_that_really_runs_is_charged() {
    let harness = harness(
        policy(Limits::default(), vec![rule("a_search", quota(1, 60), None)], Anonymous::Refuse),
        None,
    );
    let ctx = known("i", "s");
    call(&harness, "a_search", &ctx).await.unwrap();
    let refusal = refused(call(&harness, "a_search", &ctx).await);
    assert_eq!(refusal.rule, "tools[a_search].shared");
    assert_eq!((refusal.scope, refusal.retry), (LimitScope::Tool, Retry::After(Duration::from_secs(60))));
    call(&harness, "b_search", &ctx).await.unwrap();
    assert_eq!(harness.inner.requests().len(), 2, "a refused call reaches nothing");
    // The same tool under another name, after a change of the catalogue: the same bucket.
    harness.inner.set_tools(vec![tool("a", "search", "a_search_v2"), tool("a", "search", "a_search")]);
    refused(call(&harness, "a_search", &ctx).await);
    harness.clock.advance(60_000_000);
    call(&harness, "a_search", &ctx).await.unwrap();
}

#[tokio::test]
async fn users_are_issuer_and_subject() {
    let server = Limits { per_user: quota(1, 60), ..Limits::default() };
    let harness = harness(policy(server, vec![], Anonymous::Refuse), None);
    call(&harness, "a_search", &known("i", "s")).await.unwrap();
    refused(call(&harness, "b_search", &known("i", "s")).await);
    call(&harness, "a_search", &known("j", "s")).await.unwrap();
    call(&harness, "a_search", &known("i", "t")).await.unwrap();
    call(&harness, "a_search", &known("is", "")).await.unwrap();
    call(&harness, "a_search", &known("", "is")).await.unwrap();
}

#[tokio::test]
async fn callers_without_identity_have_a_named_outcome() {
    let server = Limits { per_user: quota(1, 60), ..Limits::default() };
    let anonymous = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    let from =
        |address: &str| CallContext { peer_address: Some(address.parse().unwrap()), ..anonymous.clone() };
    let refuse = harness(policy(server.clone(), vec![], Anonymous::Refuse), None);
    assert!(matches!(call(&refuse, "a_search", &anonymous).await, Err(Error::IdentityRequired(_))));
    let shared = harness(policy(server.clone(), vec![], Anonymous::Shared), None);
    call(&shared, "a_search", &from("127.0.0.1")).await.unwrap();
    refused(call(&shared, "a_search", &from("127.0.0.2")).await);
    let address = harness(policy(server, vec![], Anonymous::Address), None);
    call(&address, "a_search", &from("127.0.0.1")).await.unwrap();
    call(&address, "a_search", &from("127.0.0.2")).await.unwrap();
    refused(call(&address, "a_search", &from("127.0.0.1")).await);
    assert!(matches!(call(&address, "a_search", &anonymous).await, Err(Error::IdentityRequired(_))));
}

#[tokio::test]
async fn what_never_happened_costs_nothing() {
    let server = Limits { shared: quota(1, 60), ..Limits::default() };
    let harness = harness(policy(server, vec![], Anonymous::Refuse), None);
    let ctx = known("i", "s");
    assert!(matches!(call(&harness, "absent", &ctx).await, Err(Error::UnknownTool(_))));
    // The tool is listed, but gone by the time it is called.
    let tools = harness.gateway.list_tools(&ctx).await.unwrap();
    let tool_plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    let permit = harness.limiter.admit(&tool_plan, &ctx).await.unwrap();
    permit.refund("backend_unavailable").await;
    call(&harness, "a_search", &ctx).await.unwrap();
    refused(call(&harness, "a_search", &ctx).await);
}

#[tokio::test]
async fn a_dropped_call_leaves_the_calls_in_flight() {
    let concurrency = Concurrency { shared: NonZeroU32::new(1), per_user: None, mode: Mode::Enforce };
    let harness =
        harness(policy(Limits { concurrency, ..Limits::default() }, vec![], Anonymous::Refuse), None);
    let begun = harness.inner.hanging_changed.notified();
    let gateway = harness.gateway.clone();
    let hanging =
        tokio::spawn(
            async move { gateway.call_tool(&known("i", "s"), conformance::tool_call("hang")).await },
        );
    begun.await;
    let refusal = refused(call(&harness, "a_search", &known("i", "s")).await);
    assert_eq!(refusal.retry, Retry::WhenReleased);
    let dropped = harness.inner.hanging_changed.notified();
    hanging.abort();
    dropped.await;
    let _ = hanging.await;
    call(&harness, "a_search", &known("i", "s")).await.unwrap();
}

#[tokio::test]
async fn peeking_spends_nothing_and_names_what_binds() {
    let server = Limits { shared: quota(10, 10), per_user: quota(1, 60), ..Limits::default() };
    let harness = harness(policy(server, vec![], Anonymous::Refuse), None);
    let ctx = known("i", "s");
    call(&harness, "a_search", &ctx).await.unwrap();
    let tools = harness.gateway.list_tools(&ctx).await.unwrap();
    for _ in 0..3 {
        let views = harness.limiter.peek(&tools, &"a_search".into(), &ctx).await.unwrap();
        let lines: Vec<String> = views
            .iter()
            .map(|view| format!("{} {}/{} {:?}", view.rule, view.level, view.capacity, view.wait))
            .collect();
        assert_eq!(lines, ["shared 9/10 None", "perUser 0/1 Micros(60000000)"]);
    }
}

/// A fake shared store that a test makes fail and recover: one map of buckets, one clock.
pub(crate) struct FakeStore {
    pub(crate) clock: Arc<dyn Clock>,
    /// The slots of calls in flight.
    pub(crate) slots: FakeSlots,
    /// The number of decisions that it was asked for.
    pub(crate) request_count: std::sync::atomic::AtomicUsize,
    levels: Mutex<HashMap<Arc<str>, BucketState>>,
    failure: Mutex<Option<StoreFailure>>,
    /// This number of adjustments fails, although the store answers otherwise.
    pub(crate) failing_changes: std::sync::atomic::AtomicU32,
    /// The number of replicas that share it.
    replicas: std::sync::atomic::AtomicU32,
    /// The lease requests that it received.
    pub(crate) take_requests: Mutex<Vec<TakeRequest>>,
    /// The partitions of the buckets that it was asked for decisions about.
    pub(crate) partitions: Mutex<Vec<Option<Arc<str>>>>,
    /// Decisions about this partition fail, although the store answers otherwise.
    failing_partition: Mutex<Option<Option<Arc<str>>>>,
    /// When true, it repeats its last refusal without a request, as a refusal cache does.
    knows_refusals: std::sync::atomic::AtomicBool,
    last_refusal: Mutex<Option<(AdmitRequest, RemoteVerdict)>>,
    /// The age that it reports for the present keys.
    key_age: Mutex<Option<Duration>>,
    /// The number of buckets in its requests that may have levels under former keys.
    legacy_count: std::sync::atomic::AtomicUsize,
    /// Takes wait for a permit of it.
    pub(crate) take_gate: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
}

impl FakeStore {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            slots: FakeSlots::default(),
            request_count: 0.into(),
            levels: Mutex::default(),
            failure: Mutex::default(),
            failing_changes: 0.into(),
            replicas: 2.into(),
            take_requests: Mutex::default(),
            partitions: Mutex::default(),
            failing_partition: Mutex::default(),
            knows_refusals: false.into(),
            last_refusal: Mutex::default(),
            key_age: Mutex::new(Some(Duration::MAX)),
            legacy_count: 0.into(),
            take_gate: Mutex::default(),
        })
    }

    pub(crate) fn level(&self, bucket: &RemoteBucket) -> i64 {
        let now = bucket.bucket_time(self.clock.now());
        let state = self.levels.lock().get(&bucket.key).copied();
        state.map_or(bucket.rate.capacity(), |state| bucket.rate.level_at(state.level, now))
    }

    /// Adds units to a bucket, or takes them; refunds no more than a payment allows.
    fn adjust_level(&self, bucket: &RemoteBucket, units: i64, paid_at: Option<Micros>) {
        let now = bucket.bucket_time(self.clock.now());
        let mut levels = self.levels.lock();
        let held = levels.get(&bucket.key).copied().unwrap_or_else(|| BucketState::full(&bucket.rate, now));
        let cost = bucket.rate.units(u64::from(bucket.cost));
        let paid = Payment { units: cost, at: paid_at.unwrap_or_default() };
        levels.insert(bucket.key.clone(), held.adjusted(&bucket.rate, paid, units, now));
    }

    /// The verdict of a decision, without paying.
    pub(crate) fn preview(&self, request: &AdmitRequest) -> RemoteVerdict {
        let pays = |bucket: &RemoteBucket| self.level(bucket) >= bucket.rate.units(u64::from(bucket.cost));
        let admitted = request.buckets.iter().all(|bucket| bucket.mode == Mode::Shadow || pays(bucket));
        RemoteVerdict {
            admitted,
            levels: request.buckets.iter().map(|bucket| self.level(bucket)).collect(),
            pays: request.buckets.iter().map(|bucket| admitted && pays(bucket)).collect(),
            at: self.clock.now(),
        }
    }

    pub(crate) fn decide(&self, request: &AdmitRequest) -> RemoteVerdict {
        let verdict = self.preview(request);
        for (bucket, _) in request.buckets.iter().zip(&verdict.pays).filter(|(_, pays)| **pays) {
            self.adjust_level(bucket, -bucket.rate.units(u64::from(bucket.cost)), None);
        }
        RemoteVerdict { levels: self.preview(request).levels, ..verdict }
    }

    pub(crate) fn set_failure(&self, failure: Option<StoreFailure>) {
        *self.failure.lock() = failure;
    }

    pub(crate) fn reply<T>(&self, value: impl FnOnce() -> T) -> Result<T, StoreFailure> {
        match *self.failure.lock() {
            Some(failure) => Err(failure),
            None => Ok(value()),
        }
    }
}

impl RemoteStore for FakeStore {
    fn admit<'a>(&'a self, request: &'a AdmitRequest) -> BoxFuture<'a, Result<RemoteVerdict, StoreFailure>> {
        Box::pin(async move {
            self.request_count.fetch_add(1, Ordering::SeqCst);
            self.partitions.lock().extend(request.buckets.iter().map(|bucket| bucket.partition.clone()));
            let legacy = request.buckets.iter().filter(|bucket| bucket.legacy_keys.is_some()).count();
            self.legacy_count.fetch_add(legacy, Ordering::SeqCst);
            let failing = self.failing_partition.lock().clone();
            if failing.is_some_and(|failing| request.buckets.iter().any(|bucket| bucket.partition == failing))
            {
                return Err(StoreFailure::Timeout);
            }
            self.reply(|| {
                let verdict = self.decide(request);
                *self.last_refusal.lock() = (!verdict.admitted).then(|| (request.clone(), verdict.clone()));
                verdict
            })
        })
    }

    fn known_refusal(&self, request: &AdmitRequest) -> Option<RemoteVerdict> {
        let last = self.last_refusal.lock().clone().filter(|_| self.knows_refusals.load(Ordering::SeqCst));
        last.filter(|(known, _)| known == request).map(|(_, verdict)| verdict)
    }

    fn key_age(&self) -> Option<Duration> {
        *self.key_age.lock()
    }

    fn adjust<'a>(&'a self, changes: &'a [Adjustment]) -> BoxFuture<'a, Result<(), StoreFailure>> {
        Box::pin(async move {
            let less = |left: u32| left.checked_sub(1);
            if self.failing_changes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                return Err(StoreFailure::Refused);
            }
            self.reply(|| {
                for Adjustment { bucket, tokens, paid_at } in changes {
                    let size = bucket.rate.units(tokens.unsigned_abs());
                    self.adjust_level(bucket, if *tokens > 0 { -size } else { size }, *paid_at);
                }
            })
        })
    }

    fn peek<'a>(
        &'a self,
        request: &'a AdmitRequest,
    ) -> BoxFuture<'a, Result<smallvec::SmallVec<[i64; 4]>, StoreFailure>> {
        Box::pin(
            async move { self.reply(|| request.buckets.iter().map(|bucket| self.level(bucket)).collect()) },
        )
    }

    fn take<'a>(
        &'a self,
        bucket: &'a RemoteBucket,
        request: TakeRequest,
    ) -> BoxFuture<'a, Result<TakeGrant, StoreFailure>> {
        Box::pin(async move {
            self.request_count.fetch_add(1, Ordering::SeqCst);
            self.take_requests.lock().push(request);
            let gate = self.take_gate.lock().clone();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            self.reply(|| {
                let held = bucket.rate.tokens(self.level(bucket));
                let mut whole = held.min(request.need);
                if whole < request.need && request.min_useful > 1 {
                    whole -= whole % request.min_useful;
                }
                let tokens = whole.max((held / u64::from(request.share_divisor)).min(request.want));
                let tokens = if held < request.min_useful { 0 } else { tokens };
                self.adjust_level(bucket, -bucket.rate.units(tokens), None);
                TakeGrant { tokens, level: self.level(bucket), at: self.clock.now() }
            })
        })
    }

    fn replica_count(&self) -> Option<u32> {
        Some(self.replicas.load(Ordering::SeqCst))
    }

    fn is_available(&self) -> bool {
        self.failure.lock().is_none()
    }
}

#[tokio::test]
async fn the_busiest_callers_are_named() {
    let server = Limits { per_user: quota(2, 60), ..Limits::default() };
    let harness = harness(policy(server, vec![], Anonymous::Refuse), None);
    for _ in 0..3 {
        let _ = call(&harness, "a_search", &known("i", "busy")).await;
    }
    call(&harness, "a_search", &known("i", "calm")).await.unwrap();
    let top: Vec<(String, u64, u64)> = harness
        .limiter
        .top_callers()
        .iter()
        .map(|caller| (caller.identity.subject.clone(), caller.call_count, caller.refused_count))
        .collect();
    assert_eq!(top, [("busy".to_owned(), 3, 1), ("calm".to_owned(), 1, 0)]);
}
