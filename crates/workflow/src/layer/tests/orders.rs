//! Runs with any graph of steps, whose calls end in any order.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// A step, and what happens to its call.
#[derive(Clone, Debug)]
struct Plan {
    /// The indices of the steps that end before it.
    after: Vec<usize>,
    fails: bool,
    continues: bool,
    /// It is skipped unless the first of the steps before it completed.
    is_conditional: bool,
    /// How long its call takes in two runs.
    millis: [u64; 2],
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let step = (
        any::<u16>(),
        prop::bool::weighted(0.15),
        any::<bool>(),
        prop::bool::weighted(0.3),
        [0_u64..50, 0..50],
    );
    prop::collection::vec(step, 1..14).prop_map(|steps| {
        let bits = |mask: u16| u32::from(mask & (mask >> 3));
        let plan = |(index, (mask, fails, continues, is_conditional, millis))| Plan {
            after: (0..index).filter(|before| bits(mask) >> before & 1 == 1).collect(),
            fails,
            continues,
            is_conditional,
            millis,
        };
        steps.into_iter().enumerate().map(plan).collect()
    })
}

fn source(plans: &[Plan]) -> WorkflowSource {
    let step = |(index, plan): (usize, &Plan)| StepSource {
        depends_on: plan.after.iter().map(|before| format!("s{before}")).collect(),
        condition: plan
            .after
            .first()
            .filter(|_| plan.is_conditional)
            .map(|before| format!("{{{{eq .steps.s{before}.status \"completed\"}}}}")),
        on_error: Some(ErrorSource {
            action: Some(if plan.continues { "continue" } else { "abort" }.to_owned()),
            ..ErrorSource::default()
        }),
        ..step(&format!("s{index}"), "one")
    };
    workflow(plans.iter().enumerate().map(step).collect())
}

/// Calls take the time of the plan. Records when calls begin and end.
struct Timed {
    inner: SharedGateway,
    plans: Vec<Plan>,
    which: usize,
    events: Mutex<Vec<(usize, bool)>>,
    running: AtomicUsize,
}

/// Counts a call that runs.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Timed {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, _request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let step = &ctx.run.as_ref().unwrap().step.as_ref().unwrap().step;
            let index: usize = step.trim_start_matches('s').parse().unwrap();
            self.running.fetch_add(1, Ordering::Relaxed);
            let _running = Running(&self.running);
            self.events.lock().unwrap().push((index, true));
            tokio::time::sleep(Duration::from_millis(self.plans[index].millis[self.which])).await;
            self.events.lock().unwrap().push((index, false));
            Ok(if self.plans[index].fails {
                tool_result::failure("no")
            } else {
                tool_result::text(&format!("result {index}"))
            })
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
        task
    );
}

/// The reply, its state of each step, and what began and ended.
fn run_plans(plans: &[Plan], which: usize) -> (Reply, Vec<String>, Vec<(usize, bool)>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let inner = FakeGateway::new(vec![tool("b", "one", "one")]);
        let events = Mutex::default();
        let timed = Arc::new(Timed { inner, plans: plans.to_vec(), which, events, running: 0.into() });
        let reply = run(&wrap(timed.clone(), &source(plans)), &context(), json!({})).await.unwrap();
        assert_eq!(timed.running.load(Ordering::Relaxed), 0, "no call outlives its run");
        let meta: Data = reply.members.get("_meta").unwrap().decode().unwrap();
        let state = |index: usize| {
            meta["vmcp/run"]["steps"][format!("s{index}")]["status"].as_str().unwrap().to_owned()
        };
        let states = (0..plans.len()).map(state).collect();
        let events = std::mem::take(&mut *timed.events.lock().unwrap());
        (reply, states, events)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn steps_run_once_and_in_order_whenever_calls_end(plans in plans()) {
        let (reply, states, events) = run_plans(&plans, 0);
        for (index, plan) in plans.iter().enumerate() {
            let place = |begins: bool| events.iter().position(|event| *event == (index, begins));
            let begins = events.iter().filter(|event| **event == (index, true)).count();
            prop_assert!(begins <= 1, "s{index} was called {begins} times");
            let called = states[index] == "completed" || states[index] == "failed";
            prop_assert_eq!(called, begins == 1, "s{} is {}", index, states[index]);
            for before in plan.after.iter().filter(|_| called) {
                prop_assert!(["completed", "failed", "skipped"].contains(&states[*before].as_str()));
                let end = events.iter().position(|event| *event == (*before, false));
                prop_assert!(states[*before] == "skipped" || end < place(true), "s{index} began before s{before} ended");
            }
        }
        let aborts = |index: usize| states[index] == "failed" && !plans[index].continues;
        prop_assert_eq!(reply.is_error, (0..plans.len()).any(aborts));
        if !reply.is_error {
            prop_assert!(states.iter().all(|state| state != "not run"), "{states:?}");
        }
        // If nothing ends the run, the order in which calls end changes nothing.
        let (other_reply, other_states, _) = run_plans(&plans, 1);
        if !reply.is_error || !other_reply.is_error {
            prop_assert_eq!(states, other_states);
        }
    }
}
