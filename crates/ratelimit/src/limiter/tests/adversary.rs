//! An adversary against the limiter: random rules, prices, shadow modes, windows and callers. Calls end late,
//! fail or are settled up and down; the clock jumps; the store fails; restarts bring other sizes, other
//! orders and fewer limits. Each decision and each level is compared with an exact model (`model.rs`). The
//! model is checked against what a bucket can pay for the calls that stay charged.

mod model;
mod policies;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use vmcp_domain::{CallTool, Cause, Gateway, GatewayFuture, Reply, Tool, ToolList, forward};
use vmcp_json::Json;

use super::*;
use crate::bucket::saved_levels::SavedLevels;
use crate::limiter::observer::{DecisionEvent, Observer, WaitOutcome};
use model::{CallPrices, Model, ModelPayment};
use policies::{SeededRng, random_policy, vary_policy};

/// The number of decisions of one policy.
const DECISIONS: usize = 500;
/// The most calls that are open at once.
const OPEN_MAX: usize = 12;

/// How a call ends at its backend.
enum CallEnd {
    Done,
    NeverLeft,
}

/// A backend whose calls end when the test says so.
struct HeldGateway {
    inner: SharedGateway,
    begun: mpsc::UnboundedSender<oneshot::Sender<CallEnd>>,
}

impl Gateway for HeldGateway {
    fn call_tool<'a>(&'a self, _ctx: &'a CallContext, _request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let (end, ended) = oneshot::channel();
            let _ = self.begun.send(end);
            match ended.await.unwrap_or(CallEnd::Done) {
                CallEnd::Done => Ok(Reply::complete(Members::new())),
                CallEnd::NeverLeft => {
                    let (backend, cause) = ("a".into(), Cause::default());
                    Err(Error::BackendUnavailable { backend, cause, was_read: false })
                }
            }
        })
    }

    forward!(
        list_tools,
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task,
    );
}

/// The rules that the observer received with the last decision.
#[derive(Default)]
struct ObservedRules(Mutex<Vec<String>>);

impl Observer for ObservedRules {
    fn on_decision(&self, event: &DecisionEvent<'_>) {
        let mut rules: Vec<String> = event.would_refuse.iter().map(|rule| rule.to_string()).collect();
        rules.sort();
        *self.0.lock() = if event.allowed { rules } else { Vec::new() };
    }

    fn on_store_failure(&self, _failure: StoreFailure) {}

    fn on_refund(&self, _reason: &'static str) {}

    fn on_wait_start(&self) {}

    fn on_wait_end(&self, _end: WaitOutcome, _waited: Duration) {}
}

/// A call in flight.
struct OpenCall {
    end: oneshot::Sender<CallEnd>,
    call: JoinHandle<Result<Reply, Error>>,
    paid: Vec<ModelPayment>,
    /// The cost that it settles for, if a rule settles it.
    settles: u32,
    tool: usize,
}

struct Run {
    rng: SeededRng,
    clock: Arc<ManualClock>,
    store: Option<Arc<FakeStore>>,
    gateway: SharedGateway,
    limiter: Arc<Limiter>,
    observed_rules: Arc<ObservedRules>,
    /// The policy that all configurations of the run are derived from.
    policy: LimitPolicy,
    begun_calls: mpsc::UnboundedReceiver<oneshot::Sender<CallEnd>>,
    tools: Vec<Tool>,
    model: Model,
    open_calls: Vec<OpenCall>,
    decisions: usize,
    /// The history of the run, printed when the test fails.
    history: Vec<String>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.history.len().saturating_sub(40);
            self.history[from..].iter().for_each(|line| println!("{line}"));
        }
    }
}

/// A gateway whose calls wait at their backend, and the channel that announces them.
fn serve(
    tools: &[Tool],
    limiter: &Arc<Limiter>,
) -> (SharedGateway, mpsc::UnboundedReceiver<oneshot::Sender<CallEnd>>) {
    let (sender, begun) = mpsc::unbounded_channel();
    let held = HeldGateway { inner: FakeGateway::new(tools.to_vec()), begun: sender };
    (RateLimited::wrap(Arc::new(held), limiter.clone()), begun)
}

impl Run {
    fn new(mut rng: SeededRng) -> Self {
        let policy = random_policy(&mut rng);
        let clock = Arc::new(ManualClock::default());
        clock.set(Micros(1_000_000));
        let store = rng.one_in(2).then(|| FakeStore::new(clock.clone()));
        let sharing = store.clone().map(|store| Sharing {
            store,
            on_failure: OnStoreFailure::Deny,
            replica_count: None,
            slot_lease: SLOT_LEASE,
        });
        let observed_rules = Arc::new(ObservedRules::default());
        let limiter = Limiter::new(
            Arc::new(Planner::new(policy.clone())),
            clock.clone(),
            sharing,
            observed_rules.clone(),
        );
        let tools =
            vec![tool("a", "search", "a_search"), tool("b", "search", "b_search"), tool("b", "x", "x")];
        let (gateway, begun) = serve(&tools, &limiter);
        let model = Model::new(&policy, &tools, store.is_none());
        Self {
            rng,
            clock,
            store,
            gateway,
            limiter,
            observed_rules,
            policy,
            begun_calls: begun,
            tools,
            model,
            open_calls: Vec::new(),
            decisions: 0,
            history: Vec::new(),
        }
    }

    async fn step(&mut self) {
        let now = self.clock.now().0;
        let forward = match self.rng.below(8) {
            0 | 1 => 0,
            2..=4 => self.rng.below(30),
            5 | 6 => self.rng.below(2_000),
            _ => self.rng.below(300_000),
        };
        let back = if self.rng.one_in(40) { self.rng.below(5_000) } else { 0 };
        self.clock.set(Micros((now + forward).saturating_sub(back)));
        if self.store.is_none() && self.rng.one_in(100) {
            self.restart();
        }
        if !self.open_calls.is_empty() && (self.open_calls.len() >= OPEN_MAX || self.rng.one_in(3)) {
            let which = usize::try_from(self.rng.below(self.open_calls.len() as u64)).unwrap();
            let open = self.open_calls.swap_remove(which);
            self.end_call(open).await;
        } else {
            self.begin_call().await;
        }
    }

    /// Another process takes over, with another configuration. Calls that are open end with the old one and
    /// stay charged.
    fn restart(&mut self) {
        let levels = SavedLevels::decode(&self.limiter.save().unwrap().encode()).unwrap();
        let policy = vary_policy(&mut self.rng, &self.policy);
        let planner = Arc::new(Planner::new(policy.clone()));
        let (limiter, left_out) =
            Limiter::restored(planner, self.clock.clone(), self.observed_rules.clone(), &levels);
        assert_eq!(left_out, 0);
        for open in self.open_calls.drain(..) {
            open.call.abort();
        }
        (self.gateway, self.begun_calls) = serve(&self.tools, &limiter);
        self.limiter = limiter;
        let now = self.clock.now().0;
        self.model.restart(&policy, now);
        self.history.push(format!("restart at {now}: {policy:?}"));
        // The plans of the new configuration are made before the clock advances.
        let tools: Arc<ToolList> = Arc::new(self.tools.clone());
        let _ = self.limiter.prepare(&tools);
    }

    /// Starts one call and waits until it is refused or reaches its backend.
    async fn begin_call(&mut self) {
        let which = usize::try_from(self.rng.below(self.tools.len() as u64)).unwrap();
        let user = format!("u{}", self.rng.below(3));
        let terms = CallPrices {
            price: u32::try_from(self.rng.below(9)).unwrap(),
            settles: u32::try_from(self.rng.below(12)).unwrap(),
        };
        self.observed_rules.0.lock().clear();
        let is_broken = self.store.is_some() && self.rng.one_in(30);
        if let Some(store) = &self.store {
            store.set_failure(is_broken.then_some(StoreFailure::Timeout));
        }
        let arguments = Json::parse(format!(r#"{{"n":{},"s":{}}}"#, terms.price, terms.settles)).unwrap();
        let call = CallTool {
            arguments: Some(arguments),
            ..conformance::tool_call(self.tools[which].name.as_str())
        };
        let (gateway, ctx) = (self.gateway.clone(), known("i", &user));
        let mut call = tokio::spawn(async move { gateway.call_tool(&ctx, call).await });
        self.decisions += 1;
        let now = self.clock.now().0;
        let (end, refusal) = tokio::select! {
            end = self.begun_calls.recv() => (Some(end.unwrap()), None),
            outcome = &mut call => (None, Some(outcome.unwrap().unwrap_err())),
        };
        if is_broken {
            if let Some(store) = &self.store {
                store.set_failure(None);
            }
            let has_enforced = self.model.has_enforced(which);
            assert_eq!(end.is_none(), has_enforced, "without the store limits refuse, and trials do not");
            if let Some(end) = end {
                end.send(CallEnd::Done).unwrap_or_else(|_| panic!("it waits"));
                call.await.unwrap().unwrap();
            }
            return;
        }
        let decided = self.model.decide(which, &user, terms, now);
        let case = format!("{which} {user} {terms:?} at {now}: {decided:?}, {refusal:?}");
        self.history.push(case.clone());
        assert_eq!(end.is_some(), decided.admitted, "{case}");
        assert_eq!(*self.observed_rules.0.lock(), decided.would_refuse, "{case}");
        if let Some(end) = end {
            let (paid, settles) = (decided.paid, terms.settles);
            self.open_calls.push(OpenCall { end, call, paid, settles, tool: which });
        }
        self.check_levels(which, &user, now).await;
    }

    async fn end_call(&mut self, open: OpenCall) {
        let now = self.clock.now().0;
        let OpenCall { end, call, paid, settles, tool } = open;
        let never_left = self.rng.one_in(3);
        self.history.push(format!("end at {now}, never left {never_left}, settles for {settles}: {paid:?}"));
        if never_left {
            self.model.refund(&paid, now);
            end.send(CallEnd::NeverLeft).unwrap_or_else(|_| panic!("it waits"));
            call.await.unwrap().unwrap_err();
        } else {
            self.model.settle(tool, &paid, settles, now);
            end.send(CallEnd::Done).unwrap_or_else(|_| panic!("it waits"));
            call.await.unwrap().unwrap();
        }
        while !self.limiter.wait_settled(Duration::ZERO).await {
            tokio::task::yield_now().await;
        }
    }

    /// Asserts that each bucket of a tool has the level of the model.
    async fn check_levels(&self, which: usize, user: &str, now: u64) {
        let ctx = known("i", user);
        let tools: Arc<ToolList> = self.gateway.list_tools(&ctx).await.unwrap();
        let views = self.limiter.peek(&tools, &self.tools[which].name, &ctx).await.unwrap();
        let found: Vec<(String, u64)> = views.into_iter().map(|view| (view.rule, view.level)).collect();
        assert_eq!(found, self.model.levels(which, user, now), "{which} {user} at {now}");
    }
}

async fn attack(seed: u64, decisions: usize) {
    let mut made = 0;
    let mut round = 0_u64;
    while made < decisions {
        let mut run = Run::new(SeededRng(seed ^ round.wrapping_mul(0x2545_f491_4f6c_dd1d)));
        while run.decisions < DECISIONS {
            run.step().await;
        }
        run.model.check_windows();
        made += run.decisions;
        round += 1;
    }
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    let seed = RandomState::new().hash_one("seed");
    // Printed when the test fails.
    println!("seed {seed}");
    seed
}

#[tokio::test]
async fn an_adversary_finds_nothing() {
    attack(random_seed(), 20_000).await;
}

#[tokio::test]
#[ignore = "slow: ./test --group fleets"]
async fn an_adversary_finds_nothing_in_a_million_decisions() {
    attack(random_seed(), 1_000_000).await;
}
