//! Circuit breakers: stop calls to a backend that keeps failing, and let one trial call through after a time
//! to see whether the backend works again. Client calls feed the breaker, so it also finds a backend that
//! passes health checks but fails calls.
//!
//! Where callers have their own connections or processes, each caller has its own circuit in addition to the
//! shared one. The shared circuit counts only the first of consecutive failures of the same caller. A caller
//! whose own process fails therefore does not open the circuit for other callers.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use vmcp_domain::{BackendId, CallerScope, Error, IsolationScope};
use vmcp_timing::{Circuit, CircuitPermit, CircuitPolicy, CircuitState};

use crate::policy::BreakerPolicy;

/// The maximum number of callers' own circuits for one backend. Beyond it, the circuit with the oldest last
/// failure is removed.
const CALLER_CIRCUITS_MAX: usize = 4096;

/// The circuit breaker of one backend.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    /// Named in the log.
    backend: BackendId,
    policy: CircuitPolicy,
    circuits: Mutex<Circuits>,
}

/// The state of a backend's shared circuit, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitReport {
    /// The state now.
    pub state: CircuitState,
    /// When the circuit last opened, closed or let a trial call through; `None` before the first change. The
    /// end of the open period alone does not change it.
    pub changed_at: Option<Instant>,
}

#[derive(Debug)]
struct Circuits {
    shared: Circuit,
    /// When the shared circuit last changed to another variant.
    changed_at: Option<Instant>,
    /// The caller with own scope whose call failed last.
    last_counted: Option<CallerScope>,
    /// The circuits of callers whose calls fail, each with the time of the last failure. A closed circuit
    /// without failures is not stored.
    by_caller: HashMap<CallerScope, (Circuit, Instant)>,
}

/// The permission to make one call. [`CallPermit::finish`] records the outcome. A dropped permit records that
/// the call had no outcome.
#[derive(Debug)]
pub(crate) struct CallPermit<'a> {
    breaker: &'a CircuitBreaker,
    scope: IsolationScope,
    permits: Permits,
    is_finished: bool,
}

/// The permits of one call: by the shared circuit, and by the circuit of its caller.
#[derive(Clone, Copy, Debug)]
struct Permits {
    shared: CircuitPermit,
    caller: CircuitPermit,
}

impl Circuits {
    fn caller_circuit(&self, scope: IsolationScope) -> Option<&Circuit> {
        match scope {
            IsolationScope::Shared => None,
            IsolationScope::Caller(scope) => self.by_caller.get(&scope).map(|(circuit, _)| circuit),
        }
    }

    fn record(
        &mut self,
        call: (IsolationScope, Permits),
        failed: Option<bool>,
        policy: &CircuitPolicy,
        now: Instant,
    ) {
        let (scope, permits) = call;
        let before = self.shared.state_as_recorded();
        let IsolationScope::Caller(scope) = scope else {
            self.shared.record(permits.shared, failed, policy, now.into_std());
            return self.record_change(before, now);
        };
        let shared_outcome = self.shared_outcome(scope, failed);
        self.shared.record(permits.shared, shared_outcome, policy, now.into_std());
        self.record_change(before, now);
        if failed == Some(true) {
            self.last_counted = Some(scope);
        }
        if let Some((circuit, failed_at)) = self.by_caller.get_mut(&scope) {
            circuit.record(permits.caller, failed, policy, now.into_std());
            if *circuit == Circuit::CLOSED {
                self.by_caller.remove(&scope);
            } else if failed == Some(true) {
                *failed_at = now;
            }
        } else if failed == Some(true) {
            if self.by_caller.len() >= CALLER_CIRCUITS_MAX {
                self.evict_oldest();
            }
            let mut circuit = Circuit::CLOSED;
            circuit.record(permits.caller, failed, policy, now.into_std());
            self.by_caller.insert(scope, (circuit, now));
        }
    }

    fn record_change(&mut self, before: CircuitState, now: Instant) {
        if self.shared.state_as_recorded() != before {
            self.changed_at = Some(now);
        }
    }

    /// Removes the caller circuit with the oldest last failure. Circuits of callers who never return would
    /// otherwise stay for ever.
    fn evict_oldest(&mut self) {
        let oldest =
            self.by_caller.iter().min_by_key(|(_, (_, failed_at))| *failed_at).map(|(scope, _)| *scope);
        if let Some(scope) = oldest {
            self.by_caller.remove(&scope);
        }
    }

    /// What the outcome of a caller's call says about the backend as a whole. `None` when it says nothing.
    fn shared_outcome(&self, scope: CallerScope, failed: Option<bool>) -> Option<bool> {
        let fails_again = failed == Some(true)
            && match self.shared.state_as_recorded() {
                CircuitState::Closed => self.last_counted == Some(scope),
                // A caller whose own calls have failed already must not decide the trial of the shared
                // circuit.
                CircuitState::Open | CircuitState::HalfOpen => self.by_caller.contains_key(&scope),
            };
        if fails_again { None } else { failed }
    }
}

impl CircuitBreaker {
    pub(crate) fn new(backend: BackendId, policy: BreakerPolicy) -> Self {
        let BreakerPolicy { failure_threshold, timeout } = policy;
        let policy = CircuitPolicy { failure_threshold, open_min: timeout, open_max: timeout };
        let circuits = Circuits {
            shared: Circuit::CLOSED,
            changed_at: None,
            last_counted: None,
            by_caller: HashMap::new(),
        };
        Self { backend, policy, circuits: Mutex::new(circuits) }
    }

    /// Returns the permit for one call with this scope. `None` while the shared circuit or the caller's own
    /// circuit refuses calls.
    pub(crate) fn admit(&self, scope: IsolationScope, now: Instant) -> Option<CallPermit<'_>> {
        let mut circuits = self.circuits();
        let moment = now.into_std();
        // Both are asked first: a trial that only one of them admits would not be made.
        if circuits.caller_circuit(scope).is_some_and(|own| !own.can_admit(moment)) {
            return None;
        }
        let before = circuits.shared.state_as_recorded();
        let shared = circuits.shared.admit(moment)?;
        circuits.record_change(before, now);
        let own = match scope {
            IsolationScope::Shared => None,
            IsolationScope::Caller(scope) => circuits.by_caller.get_mut(&scope),
        };
        let caller = own.and_then(|(own, _)| own.admit(moment)).unwrap_or_default();
        Some(CallPermit { breaker: self, scope, permits: Permits { shared, caller }, is_finished: false })
    }

    /// Whether the shared circuit would let a call through now. Callers' own circuits are not considered, and
    /// a trial is not started.
    pub(crate) fn can_call(&self, now: Instant) -> bool {
        self.circuits().shared.can_admit(now.into_std())
    }

    /// The state of the shared circuit.
    pub(crate) fn report(&self, now: Instant) -> CircuitReport {
        let circuits = self.circuits();
        CircuitReport { state: circuits.shared.state(now.into_std()), changed_at: circuits.changed_at }
    }

    fn circuits(&self) -> MutexGuard<'_, Circuits> {
        self.circuits.lock()
    }

    fn record(&self, call: (IsolationScope, Permits), failed: Option<bool>, now: Instant) {
        let mut circuits = self.circuits();
        let before = circuits.shared.state_as_recorded();
        circuits.record(call, failed, &self.policy, now);
        let after = circuits.shared.state_as_recorded();
        drop(circuits);
        self.log_change(before, after);
    }

    fn log_change(&self, before: CircuitState, after: CircuitState) {
        let backend = &self.backend;
        match (before, after) {
            (CircuitState::Closed, CircuitState::Open) => {
                let seconds = self.policy.open_min.as_secs_f64();
                tracing::warn!(%backend, seconds, "circuit open: calls to the backend are refused");
            }
            (CircuitState::HalfOpen, CircuitState::Open) => {
                tracing::info!(%backend, "circuit still open: the trial call did not succeed");
            }
            (CircuitState::HalfOpen, CircuitState::Closed) => {
                tracing::info!(%backend, "circuit closed: the trial call succeeded");
            }
            (CircuitState::Closed | CircuitState::HalfOpen | CircuitState::Open, _) => {}
        }
    }
}

impl CallPermit<'_> {
    /// Records the outcome of the call.
    pub(crate) fn finish<T>(mut self, outcome: &Result<T, Error>, now: Instant) {
        self.is_finished = true;
        let failed = match outcome {
            // `Denied` and `BackendUnauthorized` concern credentials and say nothing about the backend's
            // health. With `BackendBusy` and `BackendFull` the call did not happen.
            Err(
                Error::Denied
                | Error::IdentityRequired(_)
                | Error::BackendUnauthorized { .. }
                | Error::BackendBusy { .. }
                | Error::BackendFull { .. },
            ) => None,
            Err(
                Error::BackendUnavailable { .. }
                | Error::BackendFailed { .. }
                | Error::BackendTimedOut { .. }
                | Error::DeadlineExceeded,
            ) => Some(true),
            Ok(_) | Err(_) => Some(false),
        };
        self.breaker.record((self.scope, self.permits), failed, now);
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.breaker.record((self.scope, self.permits), None, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failure_threshold: 3, timeout: Duration::from_secs(60) };

    fn call_of(scope: IsolationScope, breaker: &CircuitBreaker, fails: bool) -> bool {
        let Some(permit) = breaker.admit(scope, Instant::now()) else { return false };
        permit.finish(&if fails { Err(Error::DeadlineExceeded) } else { Ok(()) }, Instant::now());
        true
    }

    fn call(breaker: &CircuitBreaker, fails: bool) -> bool {
        call_of(IsolationScope::Shared, breaker, fails)
    }

    fn caller(number: u8) -> IsolationScope {
        IsolationScope::Caller(CallerScope::new([number; 32]))
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_tries_one_call() {
        let breaker = CircuitBreaker::new("b".into(), POLICY);
        assert!(call(&breaker, true) && call(&breaker, true) && call(&breaker, false));
        assert!(call(&breaker, true) && call(&breaker, true) && call(&breaker, true));
        assert!(!breaker.can_call(Instant::now()) && !call(&breaker, false), "three in a row open it");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(breaker.can_call(Instant::now()));
        let trial = breaker.admit(IsolationScope::Shared, Instant::now()).unwrap();
        assert!(breaker.admit(IsolationScope::Shared, Instant::now()).is_none(), "one trial at a time");
        drop(trial);
        assert!(call(&breaker, true), "a trial taken back leaves room for the next");
        assert!(!call(&breaker, false), "a failed trial opens it again");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(call(&breaker, false) && call(&breaker, true), "a good trial closes it");
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_that_fails_closes_out_itself_alone() {
        let (breaker, ann, bob) = (CircuitBreaker::new("b".into(), POLICY), caller(1), caller(2));
        for _ in 0..3 {
            assert!(call_of(ann, &breaker, true));
        }
        assert!(!call_of(ann, &breaker, true) && breaker.can_call(Instant::now()));
        assert!(call_of(bob, &breaker, false));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(call_of(ann, &breaker, false) && call_of(ann, &breaker, true), "its good trial closes it");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_different_callers_open_the_circuit_for_all() {
        let (breaker, ann, bob, eve) =
            (CircuitBreaker::new("b".into(), POLICY), caller(1), caller(2), caller(3));
        assert!(call_of(ann, &breaker, true) && call_of(bob, &breaker, true) && call_of(ann, &breaker, true));
        assert!(!call_of(eve, &breaker, false) && !breaker.can_call(Instant::now()));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(call_of(ann, &breaker, true), "the trial of a caller that fails anyway says nothing");
        assert!(call_of(eve, &breaker, false) && call_of(bob, &breaker, false));
        assert!(breaker.can_call(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn circuits_of_callers_are_bounded_and_forgotten() {
        let breaker = CircuitBreaker::new("b".into(), POLICY);
        let scope = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            IsolationScope::Caller(CallerScope::new(digest))
        };
        for number in 0..CALLER_CIRCUITS_MAX + 10 {
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(call_of(scope(number), &breaker, true));
            assert!(call_of(caller(255), &breaker, false));
        }
        assert_eq!(breaker.circuits().by_caller.len(), CALLER_CIRCUITS_MAX);
        // The newest are kept.
        for number in 10..CALLER_CIRCUITS_MAX + 10 {
            assert!(call_of(scope(number), &breaker, false));
        }
        assert!(breaker.circuits().by_caller.is_empty());
    }
}
