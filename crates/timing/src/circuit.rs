//! The circuit of a circuit breaker: it opens after several failures in a row, and requests are refused for a
//! time. Then one trial request decides whether requests are let through again.

use std::time::{Duration, Instant};

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// The number of consecutive failures that open the circuit; at least 1.
    pub failure_threshold: u32,
    /// How long the circuit is open the first time.
    pub open_min: Duration,
    /// The maximum. Each failed trial doubles the time up to it; if both are equal, the time is constant.
    pub open_max: Duration,
}

/// What a circuit does with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Requests are let through.
    Closed,
    /// Requests are refused.
    Open,
    /// The next request is let through as a trial, or a trial is in flight and other requests are refused.
    HalfOpen,
}

/// One circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circuit {
    phase: Phase,
    /// The number of openings since the last success, each of which doubles the time of the next one.
    openings: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Becomes `Open` when the number of consecutive failures reaches the threshold.
    Closed { failures: u32 },
    /// Becomes `Trial` with the first request from `until` on.
    Open { until: Instant },
    /// Becomes `Closed` when the trial succeeds and `Open` when it fails or has no outcome.
    Trial,
}

/// What a circuit must know of an admitted request when its outcome is recorded. The default is the permit of
/// a request that is not a trial.
#[derive(Clone, Copy, Debug, Default)]
pub struct CircuitPermit {
    is_trial: bool,
}

impl Circuit {
    /// A closed circuit without failures.
    pub const CLOSED: Self = Self { phase: Phase::Closed { failures: 0 }, openings: 0 };

    /// True if [`Circuit::admit`] would let a request through now.
    #[must_use]
    pub fn can_admit(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Closed { .. } => true,
            Phase::Open { until } => now >= until,
            Phase::Trial => false,
        }
    }

    /// Lets a request through, or returns `None`. The first request after the open time is the trial. The
    /// outcome of every admitted request must be recorded, or a trial would block the circuit for ever.
    pub fn admit(&mut self, now: Instant) -> Option<CircuitPermit> {
        if !self.can_admit(now) {
            return None;
        }
        let is_trial = matches!(self.phase, Phase::Open { .. });
        if is_trial {
            self.phase = Phase::Trial;
        }
        Some(CircuitPermit { is_trial })
    }

    /// Records whether a request has failed; `None` if its outcome says nothing about the service. While the
    /// circuit is not closed, only the trial counts: other requests began before it opened.
    pub fn record(
        &mut self,
        permit: CircuitPermit,
        failed: Option<bool>,
        policy: &CircuitPolicy,
        now: Instant,
    ) {
        match (self.phase, failed) {
            (Phase::Trial, Some(true)) if permit.is_trial => self.open(policy, now),
            (Phase::Trial, Some(false)) if permit.is_trial => *self = Self::CLOSED,
            // The next request is the trial.
            (Phase::Trial, None) if permit.is_trial => self.phase = Phase::Open { until: now },
            (Phase::Closed { failures }, Some(true)) if failures + 1 >= policy.failure_threshold => {
                self.open(policy, now);
            }
            (Phase::Closed { failures }, Some(true)) => self.phase = Phase::Closed { failures: failures + 1 },
            (Phase::Closed { .. }, Some(false)) => *self = Self::CLOSED,
            (Phase::Closed { .. }, None) | (Phase::Open { .. } | Phase::Trial, _) => {}
        }
    }

    /// Opens the circuit at least until `until`, because the service asked for a pause.
    pub fn pause_until(&mut self, until: Instant) {
        let until = match self.phase {
            Phase::Open { until: present } => present.max(until),
            Phase::Closed { .. } | Phase::Trial => until,
        };
        self.phase = Phase::Open { until };
    }

    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: Instant) -> CircuitState {
        let is_open_time_over = matches!(self.phase, Phase::Open { until } if now >= until);
        if is_open_time_over { CircuitState::HalfOpen } else { self.state_as_recorded() }
    }

    /// The state that the last request left: half open only while a trial is in flight.
    #[must_use]
    pub fn state_as_recorded(&self) -> CircuitState {
        match self.phase {
            Phase::Closed { .. } => CircuitState::Closed,
            Phase::Open { .. } => CircuitState::Open,
            Phase::Trial => CircuitState::HalfOpen,
        }
    }

    /// How long the circuit refuses requests from now on. Zero if it admits the next one, or if it waits for
    /// the outcome of a trial.
    #[must_use]
    pub fn open_for(&self, now: Instant) -> Duration {
        match self.phase {
            Phase::Open { until } => until.saturating_duration_since(now),
            Phase::Closed { .. } | Phase::Trial => Duration::ZERO,
        }
    }

    fn open(&mut self, policy: &CircuitPolicy, now: Instant) {
        let factor = 1_u32.checked_shl(self.openings).unwrap_or(u32::MAX);
        self.phase = Phase::Open { until: now + policy.open_min.saturating_mul(factor).min(policy.open_max) };
        self.openings = self.openings.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CircuitPolicy = CircuitPolicy {
        failure_threshold: 3,
        open_min: Duration::from_secs(1),
        open_max: Duration::from_secs(3),
    };

    fn call(circuit: &mut Circuit, failed: Option<bool>, now: Instant) {
        let permit = circuit.admit(now).expect("an admitted request");
        circuit.record(permit, failed, &POLICY, now);
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::CLOSED;
        for _ in 0..3 {
            call(&mut circuit, Some(true), now);
        }
        circuit
    }

    #[test]
    fn it_opens_after_failures_in_a_row_for_longer_each_time() {
        let (mut circuit, mut now) = (Circuit::CLOSED, Instant::now());
        for failed in [true, true, false] {
            call(&mut circuit, Some(failed), now);
        }
        assert_eq!(circuit, Circuit::CLOSED, "a success resets the count");
        for _ in 0..3 {
            call(&mut circuit, Some(true), now);
        }
        for seconds in [1, 2, 3, 3] {
            assert_eq!(circuit.open_for(now), Duration::from_secs(seconds));
            assert_eq!((circuit.can_admit(now), circuit.state(now)), (false, CircuitState::Open));
            now += Duration::from_secs(seconds);
            assert_eq!((circuit.can_admit(now), circuit.state(now)), (true, CircuitState::HalfOpen));
            call(&mut circuit, Some(true), now);
        }
        now += Duration::from_secs(3);
        call(&mut circuit, Some(false), now);
        assert_eq!(circuit, Circuit::CLOSED);
        assert_eq!(opened(now).open_for(now), Duration::from_secs(1), "a success resets the open time");
    }

    #[test]
    fn the_open_time_does_not_overflow() {
        let (mut circuit, mut now) = (opened(Instant::now()), Instant::now());
        for _ in 0..70 {
            now += circuit.open_for(now);
            call(&mut circuit, Some(true), now);
        }
        assert_eq!(circuit.open_for(now), POLICY.open_max);
    }

    #[test]
    fn one_trial_at_a_time_and_one_without_outcome_decides_nothing() {
        let now = Instant::now();
        let mut circuit = Circuit::CLOSED;
        circuit.pause_until(now);
        let trial = circuit.admit(now).unwrap();
        assert_eq!((circuit.admit(now).is_none(), circuit.state(now)), (true, CircuitState::HalfOpen));
        circuit.record(trial, None, &POLICY, now);
        assert!(circuit.can_admit(now));
    }

    #[test]
    fn requests_from_before_the_opening_change_nothing() {
        let (mut circuit, now) = (opened(Instant::now()), Instant::now());
        let early = CircuitPermit::default();
        for failed in [Some(true), Some(false), None] {
            let before = circuit;
            circuit.record(early, failed, &POLICY, now);
            assert_eq!(circuit, before);
        }
        let later = now + Duration::from_secs(1);
        let trial = circuit.admit(later).unwrap();
        for failed in [Some(true), Some(false), None] {
            circuit.record(early, failed, &POLICY, later);
            assert_eq!(circuit.state_as_recorded(), CircuitState::HalfOpen, "the trial decides");
        }
        circuit.record(trial, Some(false), &POLICY, later);
        assert_eq!(circuit, Circuit::CLOSED);
    }

    #[test]
    fn a_pause_opens_a_closed_circuit_and_shortens_none() {
        let (mut circuit, now) = (Circuit::CLOSED, Instant::now());
        circuit.pause_until(now + Duration::from_secs(5));
        circuit.pause_until(now + Duration::from_secs(2));
        assert_eq!(circuit.open_for(now), Duration::from_secs(5));
    }
}
