//! What the observer receives about decisions that are made without the store.

use super::*;
use crate::limiter::observer::{DecisionEvent, WaitOutcome};

/// The parts of a decision that matter to an operator during an outage.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    allowed: bool,
    fail_open: bool,
    would_refuse: Vec<String>,
}

#[derive(Default)]
struct Reports(Mutex<Vec<Report>>);

impl Reports {
    fn take(&self) -> Vec<Report> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Observer for Reports {
    fn on_decision(&self, event: &DecisionEvent<'_>) {
        self.0.lock().push(Report {
            allowed: event.allowed,
            fail_open: event.fail_open,
            would_refuse: event.would_refuse.iter().map(|rule| rule.to_string()).collect(),
        });
    }

    fn on_store_failure(&self, _failure: StoreFailure) {}

    fn on_refund(&self, _reason: &'static str) {}

    fn on_wait_start(&self) {}

    fn on_wait_end(&self, _end: WaitOutcome, _waited: Duration) {}
}

fn reporting_harness(server: Limits, on_failure: OnStoreFailure) -> (Harness, Arc<FakeStore>, Arc<Reports>) {
    let (reports, policy) = (Arc::new(Reports::default()), policy(server, vec![], Anonymous::Refuse));
    let (harness, store) = harness_with_store(policy, on_failure, reports.clone());
    (harness, store, reports)
}

fn two_in_flight(mode: Mode) -> Concurrency {
    Concurrency { shared: NonZeroU32::new(2), per_user: None, mode }
}

/// Makes a call that stays in flight, and a second one meanwhile.
async fn two_calls(harness: &Harness) {
    let gateway = harness.gateway.clone();
    let begun = harness.inner.hanging_changed.notified();
    let in_flight =
        tokio::spawn(
            async move { gateway.call_tool(&known("i", "s"), conformance::tool_call("hang")).await },
        );
    begun.await;
    let _ = call(harness, "a_search", &known("i", "s")).await;
    in_flight.abort();
    let _ = in_flight.await;
}

fn report(allowed: bool, fail_open: bool, would_refuse: &[&str]) -> Report {
    Report { allowed, fail_open, would_refuse: would_refuse.iter().map(|rule| (*rule).to_owned()).collect() }
}

/// A store that has just come back is not asked for slots. Slots in shadow mode count all the same, as the
/// failure policy says.
#[tokio::test(start_paused = true)]
async fn slots_on_trial_are_reported_while_the_store_is_not_asked() {
    for (on_failure, expected) in [
        (OnStoreFailure::Deny, [true, true]),
        // Each of two replicas has one of the two slots.
        (OnStoreFailure::Local, [false, true]),
        (OnStoreFailure::Allow, [false, false]),
    ] {
        let limits = Limits {
            concurrency: two_in_flight(Mode::Shadow),
            shared: quota(10, 10_000),
            ..Limits::default()
        };
        let (harness, store, reports) = reporting_harness(limits, on_failure);
        store.reconnect_empty();
        two_calls(&harness).await;
        let expected =
            expected.map(|full| report(true, false, if full { &["concurrency.shared"] } else { &[] }));
        assert_eq!(reports.take(), expected, "{on_failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_reported_as_the_policy_decides() {
    for (mode, on_failure, expected) in [
        (Mode::Enforce, OnStoreFailure::Deny, report(false, false, &[])),
        (Mode::Enforce, OnStoreFailure::Allow, report(true, true, &[])),
        (Mode::Shadow, OnStoreFailure::Deny, report(true, false, &["concurrency.shared"])),
        (Mode::Shadow, OnStoreFailure::Allow, report(true, false, &[])),
    ] {
        let limits = Limits { concurrency: two_in_flight(mode), ..Limits::default() };
        let (harness, store, reports) = reporting_harness(limits, on_failure);
        store.set_failure(Some(StoreFailure::Timeout));
        let _ = call(&harness, "a_search", &known("i", "s")).await;
        assert_eq!(reports.take(), [expected], "{mode:?}, {on_failure:?}");
    }
}

/// Buckets are reported like slots.
#[tokio::test]
async fn buckets_are_reported_as_the_policy_decides() {
    for (mode, on_failure, expected) in [
        (Mode::Enforce, OnStoreFailure::Allow, [report(true, true, &[]), report(true, true, &[])]),
        (Mode::Shadow, OnStoreFailure::Allow, [report(true, false, &[]), report(true, false, &[])]),
        (
            Mode::Shadow,
            OnStoreFailure::Deny,
            [report(true, false, &["shared"]), report(true, false, &["shared"])],
        ),
        // Each of two replicas has one of the two tokens.
        (Mode::Shadow, OnStoreFailure::Local, [report(true, false, &[]), report(true, false, &["shared"])]),
    ] {
        let shared = quota(2, 60).map(|quota| Quota { mode, ..quota });
        let limits = Limits { shared, per_user: quota(50, 60), ..Limits::default() };
        let limits = if mode == Mode::Shadow && on_failure != OnStoreFailure::Local {
            Limits { per_user: None, ..limits }
        } else {
            limits
        };
        let (harness, store, reports) = reporting_harness(limits, on_failure);
        store.set_failure(Some(StoreFailure::Timeout));
        for _ in 0..2 {
            call(&harness, "a_search", &known("i", "s")).await.unwrap();
        }
        assert_eq!(reports.take(), expected, "{mode:?}, {on_failure:?}");
    }
}

/// A shadow rule in a partition that fails would have refused where the policy is to deny.
#[tokio::test]
async fn a_shadow_rule_that_could_not_be_asked_is_reported() {
    for (on_failure, would_refuse) in
        [(OnStoreFailure::Deny, &["perUser"][..]), (OnStoreFailure::Allow, &[][..])]
    {
        let per_user = quota(5, 60).map(|quota| Quota { mode: Mode::Shadow, ..quota });
        let limits = Limits { shared: quota(9, 60), per_user, ..Limits::default() };
        let reports = Arc::new(Reports::default());
        let (harness, store) = harness_with_store(split_policy(limits), on_failure, reports.clone());
        call(&harness, "a_search", &known("i", "s")).await.unwrap();
        let own = store.partitions.lock().iter().flatten().next().cloned();
        *store.failing_partition.lock() = Some(own);
        call(&harness, "a_search", &known("i", "s")).await.unwrap();
        let expected = [report(true, false, &[]), report(true, false, would_refuse)];
        assert_eq!(reports.take(), expected, "{on_failure:?}");
    }
}
