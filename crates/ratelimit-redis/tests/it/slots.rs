//! Slots of calls in flight on a real server: what one script grants, refuses, keeps and releases.

mod fleet;
mod outages;

use std::time::Duration;

use rustix::process::Signal;
use smallvec::SmallVec;
use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{
    AdmitRequest, CallId, RemoteSlotLimit, RemoteStore as _, SlotReport, SlotRequest, SlotStore as _,
    SlotVerdict, StoreFailure,
};
use vmcp_ratelimit_redis::RedisStore;

use crate::server::{Server, ServerKind, admit_request, eventually, fixed_rate, tokens, wait_available};

const LEASE: Duration = Duration::from_secs(60);

crate::on_both!(
    slots_are_given_until_a_bound_is_full,
    all_bounds_give_a_slot_or_none_does,
    a_bound_in_shadow_mode_refuses_nobody,
    asking_twice_counts_once,
    who_is_not_heard_of_loses_the_slot,
    who_is_reported_keeps_it_or_has_it_again,
    leases_of_different_lengths_live_side_by_side,
    nothing_stays_behind,
    an_answer_that_is_lost_costs_no_slot,
    slots_and_buckets_are_one_decision,
    who_gives_up_gets_its_tokens_back,
);

pub(crate) fn slot_limit(key: &str, count_max: u32) -> RemoteSlotLimit {
    RemoteSlotLimit { key: key.into(), count_max, mode: Mode::Enforce, partition: None }
}

fn call_id(number: u8) -> CallId {
    CallId([number; 16])
}

pub(crate) fn slot_request(call: u8, slots: &[RemoteSlotLimit], lease: Duration) -> SlotRequest {
    let ended = slots.iter().map(|_| Vec::new()).collect();
    SlotRequest { call: call_id(call), lease, limits: slots.iter().cloned().collect(), ended }
}

/// Asks for slots of a call that falls under no bucket.
pub(crate) async fn take_slots(
    store: &RedisStore,
    request: &SlotRequest,
) -> Result<SlotVerdict, StoreFailure> {
    let none = AdmitRequest { buckets: SmallVec::new() };
    store.acquire(request, &none).await.map(|(verdict, _)| verdict)
}

async fn acquire(store: &RedisStore, call: u8, slots: &[RemoteSlotLimit]) -> SlotVerdict {
    take_slots(store, &slot_request(call, slots, LEASE)).await.unwrap()
}

fn slot_report(key: &str, held: &[u8], ended: &[u8]) -> Vec<SlotReport> {
    let names = |numbers: &[u8]| numbers.iter().map(|number| call_id(*number)).collect();
    vec![SlotReport { key: key.into(), held: names(held), ended: names(ended) }]
}

async fn counts(store: &RedisStore, slots: &[RemoteSlotLimit]) -> Vec<u32> {
    store.count(slots).await.unwrap().into_vec()
}

async fn slots_are_given_until_a_bound_is_full(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let slots = [slot_limit("slots:shared", 2)];
    for (call, others) in [(1, 0), (2, 1)] {
        let verdict = acquire(&store, call, &slots).await;
        assert!(verdict.admitted);
        assert_eq!((&verdict.counts[..], &verdict.holds[..]), (&[others][..], &[true][..]));
    }
    let writes = server.call_count("zadd").await;
    let verdict = acquire(&store, 3, &slots).await;
    assert!(!verdict.admitted);
    assert_eq!((&verdict.counts[..], &verdict.holds[..]), (&[2][..], &[false][..]));
    assert_eq!(server.call_count("zadd").await, writes, "a refusal writes nothing");
    // The next request also reports the call that has ended.
    let mut next = slot_request(3, &slots, LEASE);
    next.ended[0] = vec![call_id(1)];
    assert!(take_slots(&store, &next).await.unwrap().admitted);
    assert_eq!(counts(&store, &slots).await, [2]);
    store.report(None, &slot_report("slots:shared", &[], &[2, 3]), LEASE).await.unwrap();
    assert_eq!(counts(&store, &slots).await, [0]);
}

async fn all_bounds_give_a_slot_or_none_does(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let (shared, ann, ben) =
        (slot_limit("slots:shared", 9), slot_limit("slots:user:ann", 1), slot_limit("slots:user:ben", 1));
    assert!(acquire(&store, 1, &[shared.clone(), ann.clone()]).await.admitted);
    let verdict = acquire(&store, 2, &[shared.clone(), ann.clone()]).await;
    assert_eq!((verdict.admitted, &verdict.counts[..]), (false, &[1, 1][..]));
    assert!(acquire(&store, 3, &[shared.clone(), ben.clone()]).await.admitted);
    assert_eq!(counts(&store, &[shared, ann, ben]).await, [2, 1, 1]);
}

async fn a_bound_in_shadow_mode_refuses_nobody(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let shadow = RemoteSlotLimit { mode: Mode::Shadow, ..slot_limit("slots:shared:tool", 1) };
    let slots = [slot_limit("slots:shared", 2), shadow];
    assert_eq!(acquire(&store, 1, &slots).await.holds[..], [true, true]);
    let verdict = acquire(&store, 2, &slots).await;
    assert_eq!((verdict.admitted, &verdict.holds[..]), (true, &[true, false][..]));
    assert!(!acquire(&store, 3, &slots).await.admitted, "the other one does");
    assert_eq!(counts(&store, &slots).await, [2, 1]);
}

async fn asking_twice_counts_once(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let slots = [slot_limit("slots:shared", 1)];
    for _ in 0..3 {
        let verdict = acquire(&store, 1, &slots).await;
        assert_eq!((verdict.admitted, &verdict.counts[..]), (true, &[0][..]));
    }
    assert!(!acquire(&store, 2, &slots).await.admitted);
}

async fn who_is_not_heard_of_loses_the_slot(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let slots = [slot_limit("slots:shared", 1)];
    let short = Duration::from_millis(300);
    let begun = std::time::Instant::now();
    assert!(take_slots(&store, &slot_request(1, &slots, short)).await.unwrap().admitted);
    eventually("the slot is free", async || {
        let free = acquire(&store, 2, &slots).await.admitted;
        assert!(!free || begun.elapsed() >= short, "free after {:?}", begun.elapsed());
        free
    })
    .await;
    assert_eq!(counts(&store, &slots).await, [1], "who is gone does not count");
    let left: u32 = server.command("ZCARD thv:rl:{ns:srv}:2:slots:shared").await;
    assert_eq!(left, 1, "and is not kept");
}

async fn who_is_reported_keeps_it_or_has_it_again(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let slots = [slot_limit("slots:shared", 1)];
    assert!(take_slots(&store, &slot_request(1, &slots, Duration::from_millis(200))).await.unwrap().admitted);
    store.report(None, &slot_report("slots:shared", &[1], &[]), LEASE).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!acquire(&store, 2, &slots).await.admitted);
    // A server that has lost its data learns what is in flight, even if that is more than the limit.
    server.command::<()>("FLUSHALL").await;
    assert!(acquire(&store, 2, &slots).await.admitted);
    store.report(None, &slot_report("slots:shared", &[1], &[]), LEASE).await.unwrap();
    assert_eq!(counts(&store, &slots).await, [2]);
    store.report(None, &slot_report("slots:shared", &[], &[2]), LEASE).await.unwrap();
    assert!(!acquire(&store, 3, &slots).await.admitted, "nobody is admitted until there is room for all");
}

async fn leases_of_different_lengths_live_side_by_side(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let slots = [slot_limit("slots:shared", 2)];
    assert!(acquire(&store, 1, &slots).await.admitted);
    assert!(take_slots(&store, &slot_request(2, &slots, Duration::from_millis(100))).await.unwrap().admitted);
    let kept: i64 = server.command("PTTL thv:rl:{ns:srv}:2:slots:shared").await;
    assert!(kept > 50_000, "a short lease cuts no long one off: {kept}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(counts(&store, &slots).await, [1]);
}

async fn nothing_stays_behind(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let slots = [slot_limit("slots:shared", 5)];
    let short = Duration::from_millis(100);
    assert!(take_slots(&store, &slot_request(1, &slots, short)).await.unwrap().admitted);
    store.report(None, &slot_report("slots:shared", &[1, 2], &[]), short).await.unwrap();
    eventually("the key is gone", async || {
        server.command::<u32>("EXISTS thv:rl:{ns:srv}:2:slots:shared").await == 0
    })
    .await;
}

/// The request arrives, but its reply is too late: what was taken is returned all the same.
async fn an_answer_that_is_lost_costs_no_slot(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    wait_available(&store).await;
    let slots = [slot_limit("slots:shared", 1)];
    // The server has the script now, so the next request needs one message only.
    eventually("an answer", async || take_slots(&store, &slot_request(1, &slots, LEASE)).await.is_ok()).await;
    eventually("an answer", async || {
        store.report(None, &slot_report("slots:shared", &[], &[1]), LEASE).await.is_ok()
    })
    .await;
    server.signal(Signal::STOP);
    assert_eq!(take_slots(&store, &slot_request(2, &slots, LEASE)).await, Err(StoreFailure::Timeout));
    server.signal(Signal::CONT);
    wait_available(&store).await;
    eventually("it was carried out", async || store.count(&slots).await.is_ok_and(|counts| counts[0] == 1))
        .await;
    store.report(None, &slot_report("slots:shared", &[], &[2]), LEASE).await.unwrap();
    assert_eq!(counts(&store, &slots).await, [0]);
}

async fn slots_and_buckets_are_one_decision(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let (slots, buckets) = (
        [slot_limit("slots:shared", 1)],
        admit_request(&[("shared:60s", fixed_rate(2)), ("user:60s:ann", fixed_rate(1))]),
    );
    let left = async |store: &RedisStore| tokens(&buckets, &store.peek(&buckets).await.unwrap());
    let (verdict, paid) = store.acquire(&slot_request(1, &slots, LEASE), &buckets).await.unwrap();
    assert!(verdict.admitted && paid.admitted);
    assert_eq!((tokens(&buckets, &paid.levels), paid.pays.to_vec()), (vec![1, 0], vec![true, true]));
    // A limit without a free slot costs no tokens, and an empty bucket no slot.
    let other = admit_request(&[("shared:60s", fixed_rate(2)), ("user:60s:bob", fixed_rate(1))]);
    let (verdict, paid) = store.acquire(&slot_request(2, &slots, LEASE), &other).await.unwrap();
    assert!(!verdict.admitted && paid.admitted, "bob could pay");
    assert_eq!((&verdict.counts[..], &verdict.holds[..]), (&[1][..], &[false][..]));
    assert_eq!(left(&store).await, [1, 0]);
    store.report(None, &slot_report("slots:shared", &[], &[1]), LEASE).await.unwrap();
    let (verdict, paid) = store.acquire(&slot_request(3, &slots, LEASE), &buckets).await.unwrap();
    assert!(!verdict.admitted && !paid.admitted);
    assert_eq!((counts(&store, &slots).await, left(&store).await), (vec![0], vec![1, 0]));
    assert!(store.acquire(&slot_request(4, &slots, LEASE), &other).await.unwrap().0.admitted);
}

async fn who_gives_up_gets_its_tokens_back(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let (slots, buckets) = ([slot_limit("slots:shared", 9)], admit_request(&[("shared:60s", fixed_rate(3))]));
    server.signal(Signal::STOP);
    let request = slot_request(1, &slots, LEASE);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), store.acquire(&request, &buckets)).await.is_err()
    );
    server.signal(Signal::CONT);
    eventually("the tokens are back", async || {
        counts(&store, &slots).await == [1] && tokens(&buckets, &store.peek(&buckets).await.unwrap()) == [3]
    })
    .await;
}
