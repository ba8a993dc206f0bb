//! Single decisions: all or nothing, refusals that write nothing, keys, expiry, and values of the reference.

use std::time::Duration;

use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{AdmitRequest, Rate, RemoteStore as _, TakeRequest};
use vmcp_ratelimit_redis::script::{AdmitGrant, Scripts, read_take_grant};
use vmcp_timing::Micros;

use crate::server::{Server, ServerKind, admit, admit_request, bucket, debt, eventually, fixed_rate, tokens};

crate::on_both!(
    spends_from_all_or_none,
    a_refusal_writes_nothing,
    shadow_never_refuses_and_pays_only_what_it_has,
    buckets_disappear_when_full,
    buckets_of_a_clock_that_went_back_are_kept,
    a_clock_that_was_set_back_earns_on,
    a_broken_value_is_an_empty_bucket_and_fills,
    the_reference_left_nothing_that_hurts,
    keys_carry_prefix_tag_and_version,
    a_price_above_the_bucket_is_refused,
    waits_are_never_too_short,
);

/// Every bucket key on the server, with its value and the time when it expires.
async fn contents(server: &Server) -> Vec<(String, Vec<u8>, i64)> {
    let mut contents = Vec::new();
    let mut keys: Vec<String> = server.command("KEYS *").await;
    keys.sort();
    for key in keys.into_iter().filter(|key| !key.contains(":2:")) {
        let value = server.run(redis::cmd("DUMP").arg(&key)).await;
        let until = server.run(redis::cmd("PEXPIRETIME").arg(&key)).await;
        contents.push((key, value, until));
    }
    contents
}

async fn spends_from_all_or_none(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let both = admit_request(&[("shared:0", fixed_rate(5)), ("user:0:ann", fixed_rate(2))]);
    for left in [[4, 1], [3, 0]] {
        let verdict = admit(&store, &both).await;
        assert!(verdict.admitted);
        assert_eq!(verdict.pays.as_slice(), [true, true]);
        assert_eq!(tokens(&both, &verdict.levels), left);
    }
    for _ in 0..3 {
        let verdict = admit(&store, &both).await;
        assert!(!verdict.admitted);
        assert_eq!(verdict.pays.as_slice(), [false, false]);
        assert_eq!(tokens(&both, &verdict.levels), [3, 0]);
    }
    let other = admit_request(&[("shared:0", fixed_rate(5)), ("user:0:ben", fixed_rate(2))]);
    assert_eq!(tokens(&other, &store.peek(&other).await.unwrap()), [3, 2]);
    assert!(admit(&store, &other).await.admitted);
}

async fn a_refusal_writes_nothing(kind: ServerKind) {
    let server = Server::start(kind).await;
    let ann = admit_request(&[("shared:0", fixed_rate(5)), ("user:0:ann", fixed_rate(1))]);
    let first = server.store_with_long_deadline().await;
    assert!(admit(&first, &ann).await.admitted);
    let before = contents(&server).await;
    assert_eq!(before.len(), 2);
    let sets = server.call_count("set").await;
    // Each store asks the server at least once: it does not share the refusals that another store has cached.
    for _ in 0..3 {
        let store = server.store_with_long_deadline().await;
        let asked = server.call_count("evalsha").await;
        assert!(!admit(&store, &ann).await.admitted);
        assert!(server.call_count("evalsha").await > asked);
        store.peek(&ann).await.unwrap();
        assert_eq!(contents(&server).await, before);
    }
    assert_eq!(server.call_count("set").await, sets);
}

async fn shadow_never_refuses_and_pays_only_what_it_has(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let mixed = AdmitRequest {
        buckets: [
            bucket("shared:0", fixed_rate(4), 1, Mode::Enforce),
            bucket("shared:1", fixed_rate(3), 2, Mode::Shadow),
        ]
        .into_iter()
        .collect(),
    };
    let expected =
        [(true, [true, true], [3, 1]), (true, [true, false], [2, 1]), (true, [true, false], [1, 1])];
    for (admitted, pays, left) in expected {
        let verdict = admit(&store, &mixed).await;
        assert_eq!((verdict.admitted, verdict.pays.as_slice()), (admitted, pays.as_slice()));
        assert_eq!(tokens(&mixed, &verdict.levels), left);
    }
}

async fn buckets_disappear_when_full(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let quick = admit_request(&[("shared:0", Rate::new(10, Duration::from_secs(1), 10).unwrap())]);
    let verdict = admit(&store, &quick).await;
    assert!(verdict.admitted);
    let key = "thv:rl:{ns:srv}:3:shared:0";
    let left: i64 = server.run(redis::cmd("PTTL").arg(key)).await;
    assert!(left <= 1101, "100 ms to be full, and a second: {left}");
    eventually("the bucket is gone", async || !server.run::<bool>(redis::cmd("EXISTS").arg(key)).await).await;
    assert_eq!(tokens(&quick, &store.peek(&quick).await.unwrap()), [10]);
}

async fn buckets_of_a_clock_that_went_back_are_kept(kind: ServerKind) {
    let server = Server::start(kind).await;
    let scripts = Scripts::new("{x}:".to_owned());
    let quick = admit_request(&[("shared:0", Rate::new(10, Duration::from_secs(1), 10).unwrap())]);
    let hour = 3_600_000_000;
    for at in [2 * hour, hour] {
        server.run::<redis::Value>(&scripts.admit(&quick, 1, Some(Micros(at))).by_text()).await;
    }
    // A bucket that was written with a test's own time is kept an hour longer than needed, here another hour.
    let left: u64 = server.run(redis::cmd("PTTL").arg("{x}:shared:0")).await;
    assert!(left > 7_200_000 - 60_000, "{left}");
}

/// A bucket in the future: it was written before the server's clock was set back.
async fn a_clock_that_was_set_back_earns_on(kind: ServerKind) {
    let server = Server::start(kind).await;
    let scripts = Scripts::new("{x}:".to_owned());
    let quick = admit_request(&[("shared:0", Rate::new(10, Duration::from_secs(1), 10).unwrap())]);
    let now: (u64, u64) = server.run(&redis::cmd("TIME")).await;
    let ahead = Micros((now.0 + 3600) * 1_000_000);
    let bucket = &quick.buckets[0];
    let grant = async |want, at| {
        let answer = server.run::<redis::Value>(&scripts.admit(&quick, want, at).by_text()).await;
        AdmitGrant::read(&answer, 1).unwrap()
    };
    let spend = async || {
        assert_eq!(grant(10, Some(ahead)).await.granted_count, 10);
        assert_eq!(grant(1, None).await.granted_count, 0, "the step itself earns nothing");
        tokio::time::sleep(Duration::from_millis(350)).await;
    };
    spend().await;
    let later = grant(10, None).await;
    assert!(later.granted_count >= 3, "{later:?}");
    // Other scripts use the new time as well.
    server.run::<redis::Value>(redis::cmd("DEL").arg("{x}:shared:0")).await;
    spend().await;
    let request = TakeRequest { min_useful: 1, need: 3, want: 3, share_divisor: 1 };
    let taken = server.run::<redis::Value>(&scripts.take(bucket, request, None).by_text()).await;
    assert_eq!(read_take_grant(&taken).unwrap().tokens, 3);
    let step = async |at| {
        server.run::<redis::Value>(&scripts.adjust(&debt(bucket, 10), at).by_text()).await;
    };
    server.run::<redis::Value>(redis::cmd("DEL").arg("{x}:shared:0")).await;
    step(Some(ahead)).await;
    step(None).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let after = grant(0, None).await;
    assert!(after.levels[0] > -bucket.rate.capacity(), "the debt is paid off: {after:?}");
}

/// A value that no gateway wrote affects its own bucket alone, until that has filled.
async fn a_broken_value_is_an_empty_bucket_and_fills(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let quick = Rate::new(10, Duration::from_secs(1), 10).unwrap();
    let ann = admit_request(&[("shared:0", fixed_rate(1000)), ("user:0:ann", quick)]);
    let ben = admit_request(&[("shared:0", fixed_rate(1000)), ("user:0:ben", quick)]);
    admit(&store, &ann).await;
    let keys: Vec<String> = server.command("KEYS *user:0:ann").await;
    for broken in [&b""[..], b"abc", &[0; 25], &[0; 64]] {
        server.run::<redis::Value>(redis::cmd("SET").arg(&keys[0]).arg(broken)).await;
        assert!(!admit(&store, &ann).await.admitted, "{broken:?}");
        for _ in 0..5 {
            assert!(admit(&store, &ben).await.admitted, "{broken:?}");
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(admit(&store, &ann).await.admitted, "{broken:?}");
    }
    assert!(store.is_available());
}

async fn the_reference_left_nothing_that_hurts(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let keys = ["shared", "shared:tool:x", "user:ann", "user-tool:x:ann"];
    let hash = |key: String| {
        let mut command = redis::cmd("HSET");
        command.arg(key).arg("tokens").arg("0.25").arg("last_refill").arg("1800000000000000");
        command
    };
    for place in keys {
        server.run::<i64>(&hash(format!("thv:rl:{{ns:srv}}:{place}"))).await;
        let same = admit_request(&[(place, fixed_rate(2))]);
        let verdict = admit(&store, &same).await;
        assert!(verdict.admitted, "{place}");
        assert_eq!(tokens(&same, &verdict.levels), [1]);
    }
    // A hash at the key of a bucket is an empty bucket, and the others of the call pay nothing.
    server.run::<i64>(&hash("thv:rl:{ns:srv}:3:shared:9".to_owned())).await;
    let taken = admit_request(&[("shared:8", fixed_rate(2)), ("shared:9", fixed_rate(2))]);
    for _ in 0..2 {
        let verdict = admit(&store, &taken).await;
        assert!(!verdict.admitted);
        assert_eq!(tokens(&taken, &verdict.levels), [2, 0]);
    }
    assert_eq!(tokens(&taken, &store.peek(&taken).await.unwrap()), [2, 0]);
}

async fn keys_carry_prefix_tag_and_version(kind: ServerKind) {
    let server = Server::start(kind).await;
    let policy = server.policy().with_key_prefix("mine:").unwrap();
    let policy = policy.with_deadline(Duration::from_secs(10)).unwrap();
    let store = vmcp_ratelimit_redis::RedisStore::start(policy);
    admit(&store, &admit_request(&[("shared:0", fixed_rate(2)), ("user:0:0a1b", fixed_rate(2))])).await;
    let mut keys: Vec<String> = server.command("KEYS *").await;
    keys.sort();
    let expected = ["2:replicas", "2:since", "3:shared:0", "3:user:0:0a1b"];
    assert_eq!(keys, expected.map(|key| format!("mine:{{ns:srv}}:{key}")));
}

async fn a_price_above_the_bucket_is_refused(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let dear = AdmitRequest {
        buckets: std::iter::once(bucket("shared:0", fixed_rate(3), 4, Mode::Enforce)).collect(),
    };
    let verdict = admit(&store, &dear).await;
    assert!(!verdict.admitted);
    assert_eq!(verdict.levels.as_slice(), [fixed_rate(3).capacity()]);
}

/// Refusals come from the server and from the refusal cache; after the wait that either gives, the call is
/// admitted.
async fn waits_are_never_too_short(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let rate = Rate::new(20, Duration::from_secs(1), 1).unwrap();
    let one = admit_request(&[("shared:0", rate)]);
    assert!(admit(&store, &one).await.admitted);
    for _ in 0..10 {
        let verdict = admit(&store, &one).await;
        if verdict.admitted {
            // The machine was busy for longer than a token takes.
            continue;
        }
        let wait = rate.wait(verdict.levels[0], rate.units(1));
        assert!(wait > 0 && wait <= 50_000, "{wait}");
        tokio::time::sleep(Duration::from_micros(wait)).await;
        assert!(admit(&store, &one).await.admitted);
    }
}
