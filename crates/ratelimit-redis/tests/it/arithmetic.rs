//! The scripts compute what `vmcp-ratelimit` computes: random buckets, prices and times, also backward and
//! with large jumps, verdict by verdict and level by level.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use redis::aio::MultiplexedConnection;
use smallvec::SmallVec;
use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{Adjustment, AdmitRequest, BucketState, Payment, Rate, RemoteBucket, RemoteVerdict};
use vmcp_ratelimit_redis::script::{AdmitGrant, Scripts};
use vmcp_timing::Micros;

use crate::server::{Server, ServerKind, debt, refund};

crate::on_both!(engine_and_model_agree, the_largest_debts_are_exact);

mod slow {
    use super::engine_and_model_agree_in_a_million_decisions;

    crate::on_both!(slow: engine_and_model_agree_in_a_million_decisions);
}

/// The model: one state for each key, changed by the arithmetic of `vmcp-ratelimit`; and the conversion of a
/// state when the size of its bucket changes, in its simplest form.
#[derive(Default)]
struct Model {
    /// With the rate at which it was written: it refills at that rate until it is written again.
    states: HashMap<Arc<str>, (BucketState, Rate)>,
}

impl Model {
    fn state(&self, bucket: &RemoteBucket, now: Micros) -> BucketState {
        let Some((state, rate)) = self.states.get(&bucket.key) else {
            return BucketState::full(&bucket.rate, now);
        };
        let present = state.advanced_to(rate, now);
        if (rate.unit(), rate.capacity()) == (bucket.rate.unit(), bucket.rate.capacity()) {
            return present;
        }
        // As many tokens are missing as before, rounded up; no more than twice the capacity.
        let capacity = bucket.rate.capacity();
        let missing = rate.capacity() - present.level.units;
        let missing =
            if rate.unit() == bucket.rate.unit() { missing } else { converted(missing, rate, &bucket.rate) };
        let resized = BucketState { above_half_at: present.level.at, ..present };
        resized.with_units((capacity - missing).max(-capacity)).advanced_to(&bucket.rate, now)
    }

    fn level(&self, bucket: &RemoteBucket, now: Micros) -> i64 {
        self.state(bucket, now).level.units
    }

    fn adjust(&mut self, bucket: &RemoteBucket, units: i64, paid_at: Micros, now: Micros) {
        let paid = Payment { units: Self::cost(bucket).min(bucket.rate.capacity()), at: paid_at };
        let changed = self.state(bucket, now).adjusted(&bucket.rate, paid, units, now);
        self.states.insert(bucket.key.clone(), (changed, bucket.rate));
    }

    fn cost(bucket: &RemoteBucket) -> i64 {
        bucket.rate.units(u64::from(bucket.cost))
    }

    fn admit(&mut self, request: &AdmitRequest, now: Micros) -> RemoteVerdict {
        let fits = |bucket: &RemoteBucket| self.level(bucket, now) >= Self::cost(bucket);
        let mut pays: SmallVec<[bool; 4]> = request.buckets.iter().map(fits).collect();
        let short =
            request.buckets.iter().zip(&pays).any(|(bucket, pays)| bucket.mode == Mode::Enforce && !pays);
        for (bucket, pays) in request.buckets.iter().zip(&mut pays) {
            *pays &= !short;
            if *pays && bucket.cost > 0 {
                self.adjust(bucket, -Self::cost(bucket), now, now);
            }
        }
        let levels = request.buckets.iter().map(|bucket| self.level(bucket, now)).collect();
        RemoteVerdict { admitted: !short, levels, pays, at: now }
    }
}

/// Converts units of one size to units of another, rounded up. Rounds up by a little more where a number is too
/// large to be exact as a double.
fn converted(units: i64, from: &Rate, to: &Rate) -> i64 {
    const EXACT: i128 = 1 << 53;
    let units = i128::from(units);
    let (unit, other, most) = (i128::from(from.unit()), i128::from(to.unit()), i128::from(2 * to.capacity()));
    let exact = (units * other + unit - 1).div_euclid(unit).min(most);
    // The same doubles as in the script: above 2^53 the difference is rounded to an even number.
    let rounded = if units > EXACT { units as f64 as i128 + 2 } else { units };
    let (tokens, rest) = (rounded / unit, rounded % unit);
    let part = if rest * other < EXACT {
        (rest * other + unit - 1) / unit
    } else {
        // The same doubles as in the script.
        (rest as f64 / unit as f64 * other as f64 * (1.0 + 2_f64.powi(-50))).ceil() as i128
    };
    let found = (tokens * other + part.min(other)).min(most);
    let excess = found - exact;
    assert!((0..=2 + (exact >> 48)).contains(&excess), "{excess} more than {exact}");
    i64::try_from(found).unwrap()
}

#[derive(Clone, Debug)]
enum TimeStep {
    Forward(u64),
    Backward(u64),
    /// To the moment when the first bucket could pay, and this number of microseconds after or before it.
    ToWait(i64),
}

#[derive(Clone, Debug)]
enum Operation {
    Admit(u16),
    /// Refunds what the last admitted call paid, or a part of it.
    Refund(u32),
    Debt(u64),
    /// The configuration gives the first bucket another size.
    Resize(u64),
}

/// Any number from 1 to 2^bits, with all magnitudes equally likely.
fn magnitude(bits: u32) -> impl Strategy<Value = u64> {
    (0..=bits, any::<u64>()).prop_map(|(bits, noise)| 1 + noise % (1 << bits))
}

fn rate() -> impl Strategy<Value = Rate> {
    let any = (magnitude(30), magnitude(48), magnitude(20))
        .prop_filter_map("countable", |(tokens, micros, burst)| {
            Rate::new(tokens, Duration::from_micros(micros), burst).ok()
        });
    let largest = prop_oneof![Just(1), Just(7), Just(1_000_000_007), magnitude(30)].prop_filter_map(
        "countable",
        |tokens| {
            // The factors of 2^53 - 1: the largest capacity of all, in which every bit counts.
            Rate::new(tokens, Duration::from_micros(69_431 * 20_394_401), 6361).ok()
        },
    );
    prop_oneof![3 => any, 1 => largest]
}

fn bucket() -> impl Strategy<Value = (Rate, u32, Mode)> {
    let cost = prop_oneof![4 => 1_u32..3, 1 => Just(0), 2 => 1_u32..200, 1 => any::<u32>(), 1 => Just(6361)];
    let mode = prop_oneof![3 => Just(Mode::Enforce), 1 => Just(Mode::Shadow)];
    (rate(), cost, mode)
}

fn step() -> impl Strategy<Value = (TimeStep, Operation)> {
    let time = prop_oneof![
        2 => Just(TimeStep::Forward(0)),
        3 => magnitude(40).prop_map(TimeStep::Forward),
        2 => magnitude(53).prop_map(TimeStep::Forward),
        2 => magnitude(40).prop_map(TimeStep::Backward),
        4 => (-1_i64..=1).prop_map(TimeStep::ToWait),
    ];
    let operation = prop_oneof![
        8 => Just(Operation::Admit(1)),
        4 => (2_u16..20).prop_map(Operation::Admit),
        1 => Just(Operation::Admit(0)),
        3 => (1_u32..4).prop_map(Operation::Refund),
        2 => magnitude(34).prop_map(Operation::Debt),
        2 => magnitude(20).prop_map(Operation::Resize),
    ];
    (time, operation)
}

type Trace = (Vec<(Rate, u32, Mode)>, Vec<(TimeStep, Operation)>);

fn traces() -> impl Strategy<Value = Trace> {
    (prop::collection::vec(bucket(), 1..6), prop::collection::vec(step(), 1..60))
}

struct Runner {
    connection: MultiplexedConnection,
    scripts: Scripts,
}

impl Runner {
    async fn run(&mut self, (buckets, steps): &Trace) -> Result<(), TestCaseError> {
        let index = |(index, (rate, cost, mode)): (usize, &(Rate, u32, Mode))| RemoteBucket {
            key: format!("shared:{index}").into(),
            rate: *rate,
            cost: *cost,
            mode: *mode,
            shadow_rule: None,
            partition: None,
            period: None,
            legacy_keys: None,
        };
        let mut request = AdmitRequest { buckets: buckets.iter().enumerate().map(index).collect() };
        let (mut model, mut last) = (Model::default(), None);
        let mut now: u64 = 1 << 50;
        redis::cmd("FLUSHALL").query_async::<()>(&mut self.connection).await.unwrap();
        for (time, operation) in steps {
            let first = &request.buckets[0];
            now = match *time {
                TimeStep::Forward(by) => now.saturating_add(by),
                TimeStep::Backward(by) => now.saturating_sub(by),
                TimeStep::ToWait(off) => {
                    let wait = first.rate.wait(model.level(first, Micros(now)), Model::cost(first));
                    now.saturating_add(wait).saturating_add_signed(off)
                }
            }
            .clamp(1, (1 << 53) - 1);
            let at = Micros(now);
            match *operation {
                Operation::Admit(want) => last = self.admit(&request, want, at, &mut model).await?.or(last),
                Operation::Refund(part) => {
                    let Some(verdict) = last.take() else { continue };
                    self.refund((&request, &verdict), part, at, &mut model).await;
                }
                Operation::Resize(tokens) => {
                    let period = first.rate.configured().1;
                    if let Ok(rate) = Rate::new(tokens, period, tokens) {
                        request.buckets[0].rate = rate;
                        // What was paid in another size is not refunded in this one.
                        last = None;
                    }
                }
                Operation::Debt(tokens) => {
                    self.adjust(&debt(first, tokens), at).await;
                    model.adjust(first, -first.rate.units(tokens), at, at);
                }
            }
        }
        Ok(())
    }

    /// Refunds `1 / part` of what a call has paid.
    async fn refund(
        &self,
        (request, verdict): (&AdmitRequest, &RemoteVerdict),
        part: u32,
        at: Micros,
        model: &mut Model,
    ) {
        let mut changes = refund(request, verdict);
        changes.iter_mut().for_each(|change| change.tokens /= i64::from(part));
        changes.retain(|change| change.tokens != 0);
        if changes.is_empty() {
            return;
        }
        self.adjust(&changes, at).await;
        for Adjustment { bucket, tokens, .. } in &changes {
            if model.states.contains_key(&bucket.key) {
                model.adjust(bucket, bucket.rate.units(tokens.unsigned_abs()), verdict.at, at);
            }
        }
    }

    async fn adjust(&self, changes: &[Adjustment], at: Micros) {
        let command = self.scripts.adjust(changes, Some(at)).by_text();
        command.query_async::<i64>(&mut self.connection.clone()).await.unwrap();
    }

    /// One decision for `want` calls equals as many decisions one after the other.
    async fn admit(
        &mut self,
        request: &AdmitRequest,
        want: u16,
        at: Micros,
        model: &mut Model,
    ) -> Result<Option<RemoteVerdict>, TestCaseError> {
        let command = self.scripts.admit(request, want, Some(at)).by_text();
        let value = command.query_async(&mut self.connection).await.unwrap();
        let grant = AdmitGrant::read(&value, request.buckets.len()).expect("an answer that can be read");
        prop_assert_eq!(grant.now, at);
        if want == 0 {
            let levels: Vec<i64> = request.buckets.iter().map(|bucket| model.level(bucket, at)).collect();
            prop_assert_eq!(grant.levels.as_slice(), levels.as_slice());
        }
        let mut paid = None;
        for index in 0..u32::from(want) {
            let (ours, theirs) = (grant.verdict(request, index), model.admit(request, at));
            prop_assert_eq!(&ours, &theirs, "call {} of {} at {:?} of {:?}", index, want, at, request);
            if theirs.admitted {
                paid = Some(theirs);
            }
        }
        Ok(paid)
    }
}

/// More is missing than 2^53 units, by an odd number, when the size of the bucket changes.
fn odd_debt_above_2_to_the_53() -> Trace {
    use Operation::{Admit, Debt, Resize};
    use TimeStep::{Backward, Forward, ToWait};
    let rate = Rate::new(3, Duration::from_micros(7_740_813_916_910), 590).unwrap();
    let steps = vec![
        (Forward(0), Debt(1174)),
        (Forward(0), Resize(1)),
        (ToWait(0), Admit(1)),
        (Forward(6), Admit(1)),
        (ToWait(-1), Resize(764)),
        (Backward(2), Admit(1)),
        (Forward(0), Admit(1)),
    ];
    (vec![(rate, 0, Mode::Enforce)], steps)
}

async fn engine_and_model_agree(kind: ServerKind) {
    agree(kind, 250).await;
}

/// A case is some twenty steps of some twenty decisions, and one of twenty steps changes a size.
async fn engine_and_model_agree_in_a_million_decisions(kind: ServerKind) {
    agree(kind, 6_000).await;
}

async fn agree(kind: ServerKind, cases: u32) {
    let server = Server::start(kind).await;
    let mut player =
        Runner { connection: server.connection().await, scripts: Scripts::new("t:{a:b}:".to_owned()) };
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let played = TestRunner::new(config).run(&traces(), |trace| {
            // The runner has its closure by shared reference; a clone of the connection is the same one.
            let mut player =
                Runner { connection: player.connection.clone(), scripts: player.scripts.clone() };
            runtime.block_on(player.run(&trace))
        });
        played.unwrap();
        runtime.block_on(player.run(&odd_debt_above_2_to_the_53())).unwrap();
    });
    // Refused a microsecond before the wait is over, admitted when it is.
    for (tokens, secs, burst) in [(1, 2_592_000, 1), (7, 3, 20), (1_000_000, 1, 5), (3, 1000, 3)] {
        let rate = Rate::new(tokens, Duration::from_secs(secs), burst).unwrap();
        let request = crate::server::admit_request(&[(&format!("edge:{tokens}"), rate)]);
        let start = Micros(1 << 50);
        let mut model = Model::default();
        for _ in 0..=burst {
            player.admit(&request, 1, start, &mut model).await.unwrap();
        }
        let wait = rate.wait(model.level(&request.buckets[0], start), rate.units(1));
        assert!(player.admit(&request, 1, start.plus(wait - 1), &mut model).await.unwrap().is_none());
        assert!(player.admit(&request, 1, start.plus(wait), &mut model).await.unwrap().is_some());
    }
}

/// An intermediate sum does not fit into a double although the result does.
async fn the_largest_debts_are_exact(kind: ServerKind) {
    let server = Server::start(kind).await;
    let mut player =
        Runner { connection: server.connection().await, scripts: Scripts::new("t:{a:b}:".to_owned()) };
    let start = Micros(1);
    for (index, tokens) in [7, 11, 1_000_003, 1_000_000_007].into_iter().enumerate() {
        let rate = Rate::new(tokens, Duration::from_micros(69_431 * 20_394_401), 6361).unwrap();
        for tokens in [6362, 9001, 12_721, 12_722] {
            let request = crate::server::admit_request(&[(&format!("debt:{index}:{tokens}"), rate)]);
            let mut model = Model::default();
            player.adjust(&debt(&request.buckets[0], tokens), start).await;
            model.adjust(&request.buckets[0], -rate.units(tokens), start, start);
            let full = rate.wait(model.level(&request.buckets[0], start), rate.capacity());
            for off in -5..=5 {
                let at = start.plus(full.saturating_add_signed(off));
                player.admit(&request, 0, at, &mut model).await.unwrap();
            }
        }
    }
}
