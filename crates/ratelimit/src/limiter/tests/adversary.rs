//! An adversary against the limiter: random rules, prices, trials, windows and callers; calls that end late, fail or are settled
//! up and down; a clock that jumps; a store that fails; restarts with other sizes, other orders and fewer limits. Each decision and each level is held against an exact model
//! (`model.rs`), and the model against what the calls that stay charged leave of a bucket.

mod model;
mod policies;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use vmcp_domain::{Answer, CallTool, Cause, Gateway, Json, Reply, Tool, ToolList, forward};

use super::*;
use crate::levels::Levels;
use crate::observer::{DecisionEvent, Observer, WaitEnd};
use model::{Model, Paid, Terms};
use policies::{Dice, other_policy, policy_of};

/// How many decisions one policy sees.
const DECISIONS: usize = 500;
/// How many calls are open at once at most.
const OPEN_MAX: usize = 12;

/// How a call ends at its backend.
enum End {
    Done,
    NeverLeft,
}

/// A backend whose calls end when the test says so.
struct Held {
    inner: SharedGateway,
    begun: mpsc::UnboundedSender<oneshot::Sender<End>>,
}

impl Gateway for Held {
    fn call_tool<'a>(&'a self, _ctx: &'a CallContext, _request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            let (end, ended) = oneshot::channel();
            let _ = self.begun.send(end);
            match ended.await.unwrap_or(End::Done) {
                End::Done => Ok(Reply::complete(Members::new())),
                End::NeverLeft => {
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

/// What the limiter told of its last decision.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn decided(&self, event: &DecisionEvent<'_>) {
        let mut rules: Vec<String> = event.would_refuse.iter().map(|rule| rule.to_string()).collect();
        rules.sort();
        *self.0.lock() = if event.allowed { rules } else { Vec::new() };
    }

    fn store_failed(&self, _failure: StoreFailure) {}

    fn refunded(&self, _reason: &'static str) {}

    fn wait_began(&self) {}

    fn wait_ended(&self, _end: WaitEnd, _waited: Duration) {}
}

/// A call under way.
struct Open {
    end: oneshot::Sender<End>,
    call: JoinHandle<Result<Reply, Error>>,
    paid: Vec<Paid>,
    /// What it settles for, if a rule settles it.
    settles: u32,
    tool: usize,
}

struct Run {
    dice: Dice,
    clock: Arc<ManualClock>,
    store: Option<Arc<FakeStore>>,
    gateway: SharedGateway,
    limiter: Arc<Limiter>,
    told: Arc<Told>,
    /// What all configurations of the run are made of.
    policy: LimitPolicy,
    begun: mpsc::UnboundedReceiver<oneshot::Sender<End>>,
    tools: Vec<Tool>,
    model: Model,
    open: Vec<Open>,
    decisions: usize,
    /// What has happened, for the one who looks at a failure.
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

/// A gateway whose calls wait at their backend, and where they are announced.
fn serve(
    tools: &[Tool],
    limiter: &Arc<Limiter>,
) -> (SharedGateway, mpsc::UnboundedReceiver<oneshot::Sender<End>>) {
    let (sender, begun) = mpsc::unbounded_channel();
    let held = Held { inner: FakeGateway::new(tools.to_vec()), begun: sender };
    (RateLimited::wrap(Arc::new(held), limiter.clone()), begun)
}

impl Run {
    fn new(mut dice: Dice) -> Self {
        let policy = policy_of(&mut dice);
        let clock = Arc::new(ManualClock::default());
        clock.set(Micros(1_000_000));
        let store = dice.one_in(2).then(|| FakeStore::new(clock.clone()));
        let sharing = store.clone().map(|store| Sharing {
            store,
            on_failure: OnStoreFailure::Deny,
            replica_count: None,
            slot_lease: SLOT_LEASE,
        });
        let told = Arc::new(Told::default());
        let limiter =
            Limiter::new(Arc::new(Planner::new(policy.clone())), clock.clone(), sharing, told.clone());
        let tools =
            vec![tool("a", "search", "a_search"), tool("b", "search", "b_search"), tool("b", "x", "x")];
        let (gateway, begun) = serve(&tools, &limiter);
        let model = Model::new(&policy, &tools, store.is_none());
        Self {
            dice,
            clock,
            store,
            gateway,
            limiter,
            told,
            policy,
            begun,
            tools,
            model,
            open: Vec::new(),
            decisions: 0,
            history: Vec::new(),
        }
    }

    async fn step(&mut self) {
        let now = self.clock.now().0;
        let forward = match self.dice.roll(8) {
            0 | 1 => 0,
            2..=4 => self.dice.roll(30),
            5 | 6 => self.dice.roll(2_000),
            _ => self.dice.roll(300_000),
        };
        let back = if self.dice.one_in(40) { self.dice.roll(5_000) } else { 0 };
        self.clock.set(Micros((now + forward).saturating_sub(back)));
        if self.store.is_none() && self.dice.one_in(100) {
            self.restart();
        }
        if !self.open.is_empty() && (self.open.len() >= OPEN_MAX || self.dice.one_in(3)) {
            let which = usize::try_from(self.dice.roll(self.open.len() as u64)).unwrap();
            let open = self.open.swap_remove(which);
            self.end(open).await;
        } else {
            self.begin().await;
        }
    }

    /// Another process takes over, with another configuration. Calls that are open end with the old one, and stay charged.
    fn restart(&mut self) {
        let levels = Levels::decode(&self.limiter.save().unwrap().encode()).unwrap();
        let policy = other_policy(&mut self.dice, &self.policy);
        let planner = Arc::new(Planner::new(policy.clone()));
        let (limiter, left_out) = Limiter::restored(planner, self.clock.clone(), self.told.clone(), &levels);
        assert_eq!(left_out, 0);
        for open in self.open.drain(..) {
            open.call.abort();
        }
        (self.gateway, self.begun) = serve(&self.tools, &limiter);
        self.limiter = limiter;
        let now = self.clock.now().0;
        self.model.restart(&policy, now);
        self.history.push(format!("restart at {now}: {policy:?}"));
        // The plans of the new configuration are made before time goes on.
        let tools: Arc<ToolList> = Arc::new(self.tools.clone());
        let _ = self.limiter.prepare(&tools);
    }

    /// One call, until it is refused or its backend has it.
    async fn begin(&mut self) {
        let which = usize::try_from(self.dice.roll(self.tools.len() as u64)).unwrap();
        let user = format!("u{}", self.dice.roll(3));
        let terms = Terms {
            price: u32::try_from(self.dice.roll(9)).unwrap(),
            settles: u32::try_from(self.dice.roll(12)).unwrap(),
        };
        self.told.0.lock().clear();
        let is_broken = self.store.is_some() && self.dice.one_in(30);
        if let Some(store) = &self.store {
            store.break_with(is_broken.then_some(StoreFailure::Timeout));
        }
        let arguments = Json::parse(format!(r#"{{"n":{},"s":{}}}"#, terms.price, terms.settles)).unwrap();
        let call =
            CallTool { arguments: Some(arguments), ..conformance::call(self.tools[which].name.as_str()) };
        let (gateway, ctx) = (self.gateway.clone(), known("i", &user));
        let mut call = tokio::spawn(async move { gateway.call_tool(&ctx, call).await });
        self.decisions += 1;
        let now = self.clock.now().0;
        let (end, refusal) = tokio::select! {
            end = self.begun.recv() => (Some(end.unwrap()), None),
            outcome = &mut call => (None, Some(outcome.unwrap().unwrap_err())),
        };
        if is_broken {
            if let Some(store) = &self.store {
                store.break_with(None);
            }
            let has_enforced = self.model.enforces(which);
            assert_eq!(end.is_none(), has_enforced, "without the store limits refuse, and trials do not");
            if let Some(end) = end {
                end.send(End::Done).unwrap_or_else(|_| panic!("it waits"));
                call.await.unwrap().unwrap();
            }
            return;
        }
        let decided = self.model.decide(which, &user, terms, now);
        let case = format!("{which} {user} {terms:?} at {now}: {decided:?}, {refusal:?}");
        self.history.push(case.clone());
        assert_eq!(end.is_some(), decided.admitted, "{case}");
        assert_eq!(*self.told.0.lock(), decided.would_refuse, "{case}");
        if let Some(end) = end {
            let (paid, settles) = (decided.paid, terms.settles);
            self.open.push(Open { end, call, paid, settles, tool: which });
        }
        self.check_levels(which, &user, now).await;
    }

    async fn end(&mut self, open: Open) {
        let now = self.clock.now().0;
        let Open { end, call, paid, settles, tool } = open;
        let never_left = self.dice.one_in(3);
        self.history.push(format!("end at {now}, never left {never_left}, settles for {settles}: {paid:?}"));
        if never_left {
            self.model.give_back(&paid, now);
            end.send(End::NeverLeft).unwrap_or_else(|_| panic!("it waits"));
            call.await.unwrap().unwrap_err();
        } else {
            self.model.settle(tool, &paid, settles, now);
            end.send(End::Done).unwrap_or_else(|_| panic!("it waits"));
            call.await.unwrap().unwrap();
        }
        while !self.limiter.settled(Duration::ZERO).await {
            tokio::task::yield_now().await;
        }
    }

    /// Each bucket of a tool holds what the model says.
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
        let mut run = Run::new(Dice(seed ^ round.wrapping_mul(0x2545_f491_4f6c_dd1d)));
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
    // Shown when the test fails.
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
