mod adversary;
mod debts;
mod leased;
mod outage;
mod quotas;
mod reports;
mod restart;
mod sizes;
mod trial;
mod values;
mod varied;

use std::num::NonZeroU32;
use std::time::Duration;

use parking_lot::Mutex;
use vmcp_domain::{
    BoxFuture, CallContext, Caller, Identity, LimitScope, Members, Origin, RateLimit, Retry, SharedGateway,
};
use vmcp_testkit::{FakeGateway, conformance, tool};

use super::*;
use crate::clock::{ManualClock, Micros};
use crate::layer::RateLimited;
use crate::observer::{NoObserver, Observer};
use crate::pattern::Pattern;
use crate::policy::{
    Anonymous, Concurrency, Consistency, LimitPolicy, Limits, MemoryBounds, Mode, Quota, ToolRule, WaitBounds,
};
use crate::rate::{BucketState, Payment, Rate};
use crate::remote::{Change, Order, RemoteBucket, SLOT_LEASE, StoreFailure, Taken};
use crate::slots::tests::FakeSlots;

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
        name: Pattern::new(name),
        hint: None,
        group: false,
        limits,
        cost: crate::policy::Cost::default(),
    }
}

pub(super) fn known(issuer: &str, subject: &str) -> CallContext {
    let identity = Identity { issuer: issuer.into(), subject: subject.into(), claims: Members::new() };
    CallContext::bare(Caller::Known(Arc::new(identity)), Origin::Client)
}

pub(super) struct Bench {
    clock: Arc<ManualClock>,
    pub(super) inner: Arc<FakeGateway>,
    pub(super) gateway: SharedGateway,
    pub(super) limiter: Arc<Limiter>,
}

pub(super) fn bench(policy: LimitPolicy, sharing: Option<Sharing>) -> Bench {
    bench_by(Arc::new(ManualClock::default()), policy, sharing)
}

fn bench_by(clock: Arc<ManualClock>, policy: LimitPolicy, sharing: Option<Sharing>) -> Bench {
    observed(clock, policy, sharing, Arc::new(NoObserver))
}

fn observed(
    clock: Arc<ManualClock>,
    policy: LimitPolicy,
    sharing: Option<Sharing>,
    observer: Arc<dyn Observer>,
) -> Bench {
    clock.set(Micros(1_000_000));
    let limiter = Limiter::new(Arc::new(Planner::new(policy)), clock.clone(), sharing, observer);
    let inner = FakeGateway::new(vec![
        tool("a", "search", "a_search"),
        tool("b", "search", "b_search"),
        tool("b", "hang", "hang"),
    ]);
    Bench { clock, gateway: RateLimited::wrap(inner.clone(), limiter.clone()), inner, limiter }
}

async fn call(bench: &Bench, name: &str, ctx: &CallContext) -> Result<(), Error> {
    bench.gateway.call_tool(ctx, conformance::call(name)).await.map(|_| ())
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
    let bench =
        bench(policy(Limits::default(), vec![rule("a_search", quota(1, 60), None)], Anonymous::Refuse), None);
    let ctx = known("i", "s");
    call(&bench, "a_search", &ctx).await.unwrap();
    let refusal = refused(call(&bench, "a_search", &ctx).await);
    assert_eq!(refusal.rule, "tools[a_search].shared");
    assert_eq!((refusal.scope, refusal.retry), (LimitScope::Tool, Retry::After(Duration::from_secs(60))));
    call(&bench, "b_search", &ctx).await.unwrap();
    assert_eq!(bench.inner.asked().len(), 2, "a refused call reaches nothing");
    // The same tool under another name, after a change of the catalogue: the same bucket.
    bench.inner.set_tools(vec![tool("a", "search", "a_search_v2"), tool("a", "search", "a_search")]);
    refused(call(&bench, "a_search", &ctx).await);
    bench.clock.advance(60_000_000);
    call(&bench, "a_search", &ctx).await.unwrap();
}

#[tokio::test]
async fn users_are_issuer_and_subject() {
    let server = Limits { per_user: quota(1, 60), ..Limits::default() };
    let bench = bench(policy(server, vec![], Anonymous::Refuse), None);
    call(&bench, "a_search", &known("i", "s")).await.unwrap();
    refused(call(&bench, "b_search", &known("i", "s")).await);
    call(&bench, "a_search", &known("j", "s")).await.unwrap();
    call(&bench, "a_search", &known("i", "t")).await.unwrap();
    call(&bench, "a_search", &known("is", "")).await.unwrap();
    call(&bench, "a_search", &known("", "is")).await.unwrap();
}

#[tokio::test]
async fn callers_without_identity_have_a_named_outcome() {
    let server = Limits { per_user: quota(1, 60), ..Limits::default() };
    let nobody = CallContext::bare(Caller::Anonymous, Origin::Client);
    let from = |address: &str| CallContext { peer: Some(address.parse().unwrap()), ..nobody.clone() };
    let refuse = bench(policy(server.clone(), vec![], Anonymous::Refuse), None);
    assert!(matches!(call(&refuse, "a_search", &nobody).await, Err(Error::Denied)));
    let shared = bench(policy(server.clone(), vec![], Anonymous::Shared), None);
    call(&shared, "a_search", &from("127.0.0.1")).await.unwrap();
    refused(call(&shared, "a_search", &from("127.0.0.2")).await);
    let address = bench(policy(server, vec![], Anonymous::Address), None);
    call(&address, "a_search", &from("127.0.0.1")).await.unwrap();
    call(&address, "a_search", &from("127.0.0.2")).await.unwrap();
    refused(call(&address, "a_search", &from("127.0.0.1")).await);
    assert!(matches!(call(&address, "a_search", &nobody).await, Err(Error::Denied)));
}

#[tokio::test]
async fn what_never_happened_costs_nothing() {
    let server = Limits { shared: quota(1, 60), ..Limits::default() };
    let bench = bench(policy(server, vec![], Anonymous::Refuse), None);
    let ctx = known("i", "s");
    assert!(matches!(call(&bench, "absent", &ctx).await, Err(Error::UnknownTool(_))));
    // Listed, but gone by the time it is called.
    let tools = bench.gateway.list_tools(&ctx).await.unwrap();
    let bound = bench.limiter.bound(&tools, &"a_search".into()).unwrap();
    let permit = bench.limiter.admit(&bound, &ctx).await.unwrap();
    permit.refund("backend_unavailable").await;
    call(&bench, "a_search", &ctx).await.unwrap();
    refused(call(&bench, "a_search", &ctx).await);
}

#[tokio::test]
async fn a_dropped_call_leaves_the_calls_in_flight() {
    let concurrency = Concurrency { shared: NonZeroU32::new(1), per_user: None, mode: Mode::Enforce };
    let bench = bench(policy(Limits { concurrency, ..Limits::default() }, vec![], Anonymous::Refuse), None);
    let begun = bench.inner.moved.notified();
    let gateway = bench.gateway.clone();
    let hanging =
        tokio::spawn(async move { gateway.call_tool(&known("i", "s"), conformance::call("hang")).await });
    begun.await;
    let refusal = refused(call(&bench, "a_search", &known("i", "s")).await);
    assert_eq!(refusal.retry, Retry::WhenReleased);
    let dropped = bench.inner.moved.notified();
    hanging.abort();
    dropped.await;
    let _ = hanging.await;
    call(&bench, "a_search", &known("i", "s")).await.unwrap();
}

#[tokio::test]
async fn peeking_spends_nothing_and_names_what_binds() {
    let server = Limits { shared: quota(10, 10), per_user: quota(1, 60), ..Limits::default() };
    let bench = bench(policy(server, vec![], Anonymous::Refuse), None);
    let ctx = known("i", "s");
    call(&bench, "a_search", &ctx).await.unwrap();
    let tools = bench.gateway.list_tools(&ctx).await.unwrap();
    for _ in 0..3 {
        let views = bench.limiter.peek(&tools, &"a_search".into(), &ctx).await.unwrap();
        let lines: Vec<String> = views
            .iter()
            .map(|view| format!("{} {}/{} {:?}", view.rule, view.level, view.capacity, view.wait))
            .collect();
        assert_eq!(lines, ["shared 9/10 None", "perUser 0/1 Micros(60000000)"]);
    }
}

/// A shared store that a test breaks and mends: one bucket map, one clock.
pub(crate) struct FakeStore {
    pub(crate) clock: Arc<dyn Clock>,
    /// Calls in flight.
    pub(crate) slots: FakeSlots,
    /// How often it was asked for a decision.
    pub(crate) asked: std::sync::atomic::AtomicUsize,
    levels: Mutex<HashMap<Arc<str>, BucketState>>,
    broken: Mutex<Option<StoreFailure>>,
    /// So many changes fail, although it answers otherwise.
    pub(crate) failing_changes: std::sync::atomic::AtomicU32,
    /// How many replicas share it.
    replicas: std::sync::atomic::AtomicU32,
    /// What was ordered of it.
    pub(crate) orders: Mutex<Vec<Order>>,
    /// In whose places it was asked for decisions.
    pub(crate) homes: Mutex<Vec<Option<Arc<str>>>>,
}

impl FakeStore {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            slots: FakeSlots::default(),
            asked: 0.into(),
            levels: Mutex::default(),
            broken: Mutex::default(),
            failing_changes: 0.into(),
            replicas: 2.into(),
            orders: Mutex::default(),
            homes: Mutex::default(),
        })
    }

    pub(crate) fn level(&self, bucket: &RemoteBucket) -> i64 {
        let now = bucket.time(self.clock.now());
        let state = self.levels.lock().get(&bucket.key).copied();
        state.map_or(bucket.rate.capacity(), |state| bucket.rate.level_at(state.level, now))
    }

    /// Gives units to a bucket, or takes them; gives back no more than a payment allows.
    fn add(&self, bucket: &RemoteBucket, units: i64, paid_at: Option<Micros>) {
        let now = bucket.time(self.clock.now());
        let mut levels = self.levels.lock();
        let held = levels.get(&bucket.key).copied().unwrap_or_else(|| BucketState::full(&bucket.rate, now));
        let cost = bucket.rate.units(u64::from(bucket.cost));
        let paid = Payment { units: cost, at: paid_at.unwrap_or_default() };
        levels.insert(bucket.key.clone(), held.changed(&bucket.rate, paid, units, now));
    }

    /// What a decision would say, without paying.
    pub(crate) fn look(&self, ask: &Ask) -> RemoteVerdict {
        let pays = |bucket: &RemoteBucket| self.level(bucket) >= bucket.rate.units(u64::from(bucket.cost));
        let admitted = ask.buckets.iter().all(|bucket| bucket.mode == Mode::Shadow || pays(bucket));
        RemoteVerdict {
            admitted,
            levels: ask.buckets.iter().map(|bucket| self.level(bucket)).collect(),
            pays: ask.buckets.iter().map(|bucket| admitted && pays(bucket)).collect(),
            at: self.clock.now(),
        }
    }

    pub(crate) fn decide(&self, ask: &Ask) -> RemoteVerdict {
        let verdict = self.look(ask);
        for (bucket, _) in ask.buckets.iter().zip(&verdict.pays).filter(|(_, pays)| **pays) {
            self.add(bucket, -bucket.rate.units(u64::from(bucket.cost)), None);
        }
        RemoteVerdict { levels: self.look(ask).levels, ..verdict }
    }

    pub(crate) fn break_with(&self, failure: Option<StoreFailure>) {
        *self.broken.lock() = failure;
    }

    pub(crate) fn answer<T>(&self, value: impl FnOnce() -> T) -> Result<T, StoreFailure> {
        match *self.broken.lock() {
            Some(failure) => Err(failure),
            None => Ok(value()),
        }
    }
}

impl RemoteStore for FakeStore {
    fn admit<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<RemoteVerdict, StoreFailure>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.homes.lock().extend(ask.buckets.iter().map(|bucket| bucket.home.clone()));
            self.answer(|| self.decide(ask))
        })
    }

    fn change<'a>(&'a self, changes: &'a [Change]) -> BoxFuture<'a, Result<(), StoreFailure>> {
        Box::pin(async move {
            let less = |left: u32| left.checked_sub(1);
            if self.failing_changes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                return Err(StoreFailure::Refused);
            }
            self.answer(|| {
                for Change { bucket, tokens, paid_at } in changes {
                    let size = bucket.rate.units(tokens.unsigned_abs());
                    self.add(bucket, if *tokens > 0 { -size } else { size }, *paid_at);
                }
            })
        })
    }

    fn peek<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<smallvec::SmallVec<[i64; 4]>, StoreFailure>> {
        Box::pin(async move { self.answer(|| ask.buckets.iter().map(|bucket| self.level(bucket)).collect()) })
    }

    fn take<'a>(
        &'a self,
        bucket: &'a RemoteBucket,
        order: Order,
    ) -> BoxFuture<'a, Result<Taken, StoreFailure>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.orders.lock().push(order);
            self.answer(|| {
                let held = bucket.rate.tokens(self.level(bucket));
                let mut whole = held.min(order.need);
                if whole < order.need && order.least > 1 {
                    whole -= whole % order.least;
                }
                let tokens = whole.max((held / u64::from(order.parts)).min(order.want));
                let tokens = if held < order.least { 0 } else { tokens };
                self.add(bucket, -bucket.rate.units(tokens), None);
                Taken { tokens, level: self.level(bucket), at: self.clock.now() }
            })
        })
    }

    fn replica_count(&self) -> Option<u32> {
        Some(self.replicas.load(Ordering::SeqCst))
    }

    fn is_available(&self) -> bool {
        self.broken.lock().is_none()
    }
}

#[tokio::test]
async fn the_busiest_callers_are_named() {
    let server = Limits { per_user: quota(2, 60), ..Limits::default() };
    let bench = bench(policy(server, vec![], Anonymous::Refuse), None);
    for _ in 0..3 {
        let _ = call(&bench, "a_search", &known("i", "busy")).await;
    }
    call(&bench, "a_search", &known("i", "calm")).await.unwrap();
    let top: Vec<(String, u64, u64)> = bench
        .limiter
        .top_callers()
        .iter()
        .map(|caller| (caller.identity.subject.clone(), caller.asked, caller.refused))
        .collect();
    assert_eq!(top, [("busy".to_owned(), 3, 1), ("calm".to_owned(), 1, 0)]);
}
