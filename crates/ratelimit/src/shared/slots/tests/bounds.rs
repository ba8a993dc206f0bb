//! Replicas over one store that loses requests and replies, with paused time. The tests compare the store
//! with a list of the running calls.

use proptest::prelude::*;
use tokio::time::sleep;
use vmcp_timing::ManualClock;

use super::*;

pub(super) const LEASE: Duration = Duration::from_secs(4);

/// A clock that follows tokio's paused time.
struct PausedClock(tokio::time::Instant);

impl Clock for PausedClock {
    fn now(&self) -> Micros {
        Micros(self.0.elapsed().as_micros() as u64)
    }

    fn time_of_day(&self) -> Micros {
        self.now()
    }
}

pub(super) fn slot_batch(keys: &[(&str, u32)]) -> Vec<SlotBatch> {
    let slots = |(key, count_max): &(&str, u32)| RemoteSlotLimit {
        key: (*key).into(),
        count_max: *count_max,
        mode: Mode::Enforce,
        partition: None,
    };
    vec![SlotBatch { indices: (0..keys.len()).collect(), limits: keys.iter().map(slots).collect() }]
}

pub(super) fn fleet(count: usize) -> (Vec<Arc<SharedSlots>>, Arc<FakeStore>) {
    let clock = Arc::new(PausedClock(tokio::time::Instant::now()));
    let store = FakeStore::new(clock.clone());
    ((0..count).map(|_| SharedSlots::new(store.clone(), clock.clone(), LEASE)).collect(), store)
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_stays_counted_and_what_has_ended_does_not() {
    let (replicas, store) = fleet(2);
    let one = slot_batch(&[("s", 1)]);
    let slot = replicas[0].acquire_all(&one).await.ok().unwrap();
    sleep(LEASE * 10).await;
    assert!(matches!(replicas[1].acquire_all(&one).await, Err(AcquireError::SlotsFull(0))));
    drop(slot);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(store.in_flight("s"), 0);
    assert!(replicas.iter().all(|replica| replica.is_settled()));
    // Without calls no reporter runs, and the next call starts one again.
    sleep(LEASE).await;
    assert!(replicas[0].registry.lock().begin_call());
    assert!(replicas[1].acquire_all(&one).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_bound_that_is_full_is_named() {
    let (replicas, _store) = fleet(1);
    let both = slot_batch(&[("s", 5), ("t", 1)]);
    let _first = replicas[0].acquire_all(&both).await.ok().unwrap();
    assert!(matches!(replicas[0].acquire_all(&both).await, Err(AcquireError::SlotsFull(1))));
    let mut is_shadow = slot_batch(&[("t", 1), ("s", 1)]);
    is_shadow[0].limits[0].mode = Mode::Shadow;
    assert!(
        matches!(replicas[0].acquire_all(&is_shadow).await, Err(AcquireError::SlotsFull(1))),
        "one on trial refuses nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_came_back_is_asked_again_when_all_have_told_it() {
    let (replicas, store) = fleet(1);
    let one = slot_batch(&[("s", 1)]);
    store.reconnect_empty();
    sleep(RECONNECT_GRACE - Duration::from_millis(1)).await;
    assert!(matches!(
        replicas[0].acquire_all(&one).await,
        Err(AcquireError::StoreFailed(StoreFailure::CircuitOpen, _))
    ));
    sleep(Duration::from_millis(1)).await;
    assert!(replicas[0].acquire_all(&one).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_held_and_what_is_still_to_be_told_is_known() {
    let (replicas, store) = fleet(1);
    let (replica, many) = (&replicas[0], slot_batch(&[("s", 9)]));
    assert_eq!((replica.count(), replica.is_settled()), (0, true));
    let (first, second) =
        (replica.acquire_all(&many).await.ok().unwrap(), replica.acquire_all(&many).await.ok().unwrap());
    assert_eq!(replica.count(), 2);
    store.set_failure(Some(StoreFailure::Timeout));
    drop(first);
    sleep(Duration::from_millis(5)).await;
    assert_eq!((replica.count(), replica.is_settled()), (1, false), "nobody has heard of the end");
    store.set_failure(None);
    sleep(LEASE).await;
    assert!(replica.is_settled());
    drop(second);
    sleep(LEASE).await;
    assert_eq!((replica.count(), replica.is_settled(), store.in_flight("s")), (0, true, 0));
}

#[tokio::test(start_paused = true)]
async fn names_are_told_apart() {
    let (replicas, store) = fleet(8);
    let many = slot_batch(&[("s", 1000)]);
    let mut held = Vec::new();
    for replica in &replicas {
        for _ in 0..50 {
            held.push(replica.acquire_all(&many).await.ok().unwrap());
        }
    }
    assert_eq!(store.in_flight("s"), 400);
    // More calls than fit into one report.
    sleep(LEASE * 3).await;
    assert_eq!(store.in_flight("s"), 400);
    drop(held);
    sleep(Duration::from_millis(5)).await;
    assert_eq!(store.in_flight("s"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_while_asking_holds_nothing() {
    let (replicas, store) = fleet(1);
    *store.slots.delay.lock() = Duration::from_millis(30);
    let replica = replicas[0].clone();
    let asking =
        tokio::spawn(async move { replica.acquire_all(&slot_batch(&[("s", 1)])).await.map(|_| ()).ok() });
    sleep(Duration::from_millis(10)).await;
    assert_eq!(store.in_flight("s"), 1);
    asking.abort();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(store.in_flight("s"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_costs_no_slot_and_a_call_that_goes_on_is_counted() {
    let (replicas, store) = fleet(1);
    let one = slot_batch(&[("s", 1)]);
    *store.slots.loses_answers.lock() = true;
    let Err(AcquireError::StoreFailed(_, given_up)) = replicas[0].acquire_all(&one).await else {
        panic!("no answer")
    };
    let Err(AcquireError::StoreFailed(_, mut goes_on)) = replicas[0].acquire_all(&one).await else {
        panic!("no answer")
    };
    goes_on.hold_unchecked(&one);
    drop(given_up);
    sleep(Duration::from_millis(500)).await;
    *store.slots.loses_answers.lock() = false;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(store.in_flight("s"), 1, "the one that goes on");
    drop(goes_on);
    sleep(Duration::from_millis(5)).await;
    assert_eq!(store.in_flight("s"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_hears_of_everything_at_once() {
    let (replicas, store) = fleet(2);
    let both = slot_batch(&[("s", 1), ("t", 1)]);
    let slot = replicas[0].acquire_all(&both).await.ok().unwrap();
    sleep(Duration::from_millis(300)).await;
    store.reconnect_empty();
    // Until the replica has reported, other replicas do not ask for slots.
    assert!(matches!(
        replicas[1].acquire_all(&both).await,
        Err(AcquireError::StoreFailed(StoreFailure::CircuitOpen, _))
    ));
    sleep(Duration::from_millis(150)).await;
    assert_eq!((store.in_flight("s"), store.in_flight("t")), (1, 1));
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(replicas[1].acquire_all(&both).await, Err(AcquireError::SlotsFull(0))));
    drop(slot);
    sleep(Duration::from_millis(5)).await;
    assert!(replicas[1].acquire_all(&both).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_question_that_waited_for_the_connection_does_not_count() {
    let (replicas, store) = fleet(2);
    let one = slot_batch(&[("s", 1)]);
    let _slot = replicas[0].acquire_all(&one).await.ok().unwrap();
    *store.slots.delay.lock() = Duration::from_millis(30);
    store.slots.live.lock().clear();
    let replica = replicas[1].clone();
    let asking = tokio::spawn(async move { replica.acquire_all(&one).await.is_ok() });
    sleep(Duration::from_millis(10)).await;
    *store.slots.restored.lock() = Some(store.clock.now());
    assert!(!asking.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_away_hears_of_everything_when_it_is_back() {
    let (replicas, store) = fleet(1);
    let one = slot_batch(&[("s", 2)]);
    let slot = replicas[0].acquire_all(&one).await.ok().unwrap();
    store.set_failure(Some(StoreFailure::CircuitOpen));
    let Err(AcquireError::StoreFailed(_, mut alone)) = replicas[0].acquire_all(&one).await else {
        panic!("no answer")
    };
    assert!(alone.hold_share(&one, 2).is_err(), "its share of two is one, and one is in flight");
    drop(slot);
    let Err(AcquireError::StoreFailed(_, mut alone)) = replicas[0].acquire_all(&one).await else {
        panic!("no answer")
    };
    alone.hold_share(&one, 2).unwrap();
    sleep(LEASE * 3).await;
    assert_eq!(store.in_flight("s"), 0);
    store.set_failure(None);
    sleep(Duration::from_millis(150)).await;
    assert_eq!(store.in_flight("s"), 1);
    assert!(replicas[0].is_settled(), "nobody need hear of a call whose lease is over anyway");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_while_it_is_reported_is_not_resurrected() {
    let (replicas, store) = fleet(1);
    let one = slot_batch(&[("s", 2)]);
    let slot = replicas[0].acquire_all(&one).await.ok().unwrap();
    // The second report round takes a while to arrive.
    sleep(LEASE / 5 + Duration::from_millis(300)).await;
    *store.slots.report_delay.lock() = Duration::from_millis(400);
    sleep(LEASE / 5).await;
    drop(slot);
    // The next acquire request, which would carry the ended call, overtakes that report.
    let next = replicas[0].acquire_all(&one).await.ok().unwrap();
    *store.slots.report_delay.lock() = Duration::ZERO;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(store.in_flight("s"), 1);
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_read_too_late_is_none() {
    let (replicas, store) = fleet(1);
    *store.slots.delay.lock() = LEASE / 2;
    assert!(matches!(
        replicas[0].acquire_all(&slot_batch(&[("s", 1)])).await,
        Err(AcquireError::StoreFailed(StoreFailure::Timeout, _))
    ));
    *store.slots.delay.lock() = Duration::ZERO;
    sleep(LEASE).await;
    assert_eq!(store.in_flight("s"), 0);
}

#[tokio::test]
async fn of_two_homes_the_first_is_given_back_if_the_second_refuses() {
    let store = FakeStore::new(Arc::new(ManualClock::default()));
    let slots = SharedSlots::new(store.clone(), store.clock.clone(), LEASE);
    let mut both = slot_batch(&[("shared", 5)]);
    both.extend(slot_batch(&[("ann", 1)]));
    both[1].limits[0].partition = Some("ann".into());
    both[1].indices[0] = 7;
    let first = slots.acquire_all(&both).await.ok().unwrap();
    assert!(matches!(slots.acquire_all(&both).await, Err(AcquireError::SlotsFull(7))));
    tokio::time::timeout(Duration::from_secs(5), async {
        while store.in_flight("shared") != 1 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(store.in_flight("ann"), 1);
    drop(first);
    tokio::time::timeout(Duration::from_secs(5), async {
        while store.in_flight("ann") + store.in_flight("shared") != 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    for (partition, key) in store.slots.reported.lock().iter() {
        let expected = (key == "ann").then_some("ann");
        assert_eq!(
            partition.as_deref(),
            expected,
            "what has ended at {key} is said in its place of a cluster"
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin { replica: usize, user: bool },
    End(usize),
    Break(bool),
    LoseAnswers(bool),
    Delay(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, any::<bool>()).prop_map(|(replica, user)| Step::Begin { replica, user }),
        5 => any::<usize>().prop_map(Step::End),
        1 => any::<bool>().prop_map(Step::Break),
        1 => any::<bool>().prop_map(Step::LoseAnswers),
        1 => (0..60_u64).prop_map(Step::Delay),
        4 => (0..1200_u64).prop_map(Step::Pass),
    ]
}

/// Failures here are shorter than half a lease, as the bound requires.
async fn run(steps: Vec<Step>) {
    const COUNT_MAX: u32 = 3;
    let (replicas, store) = fleet(3);
    let mut running: Vec<(bool, SlotGuard)> = Vec::new();
    let mut ailing = Duration::ZERO;
    for step in steps {
        match step {
            Step::Begin { replica, user } => {
                let keys = [("all", COUNT_MAX), ("user", 1)];
                let asked = slot_batch(if user { &keys } else { &keys[..1] });
                if let Ok(slot) = replicas[replica].acquire_all(&asked).await {
                    running.push((user, slot));
                }
            }
            Step::End(which) if !running.is_empty() => drop(running.swap_remove(which % running.len())),
            Step::End(_) => {}
            Step::Break(breaks) => store.set_failure(breaks.then_some(StoreFailure::Disconnected)),
            Step::LoseAnswers(loses) => *store.slots.loses_answers.lock() = loses,
            Step::Delay(millis) => *store.slots.delay.lock() = Duration::from_millis(millis),
            Step::Pass(millis) => {
                let pause = Duration::from_millis(millis);
                sleep(pause).await;
                ailing += pause;
            }
        }
        if ailing > LEASE / 4 {
            store.set_failure(None);
            *store.slots.loses_answers.lock() = false;
            sleep(Duration::from_millis(400)).await;
            ailing = Duration::ZERO;
        }
        assert!(running.len() <= COUNT_MAX as usize, "{} in flight", running.len());
        assert!(running.iter().filter(|(user, _)| *user).count() <= 1);
    }
    store.set_failure(None);
    *store.slots.loses_answers.lock() = false;
    *store.slots.delay.lock() = Duration::ZERO;
    sleep(LEASE * 2).await;
    assert_eq!(store.in_flight("all"), running.len(), "who runs counts, and nobody else");
    running.clear();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(store.in_flight(""), 0);
    assert!(replicas.iter().all(|replica| replica.is_settled()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn never_above_the_bound_and_nothing_is_lost(steps in prop::collection::vec(step(), 1..120)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps));
    }
}
