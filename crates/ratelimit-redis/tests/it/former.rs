//! Levels under former keys: of key layout 2, which named buckets by the index of their window, and of the
//! reference.

use std::sync::Arc;
use std::time::Duration;

use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{AdmitRequest, LegacyKeys, Rate, RemoteBucket, RemoteStore as _};

use crate::server::{Server, ServerKind, admit, bucket, debt, eventually, fixed_rate, tokens};

crate::on_both!(
    levels_of_older_versions_are_found_by_their_rate,
    levels_of_the_reference_are_found,
    a_debt_finds_the_former_level_first,
    the_age_of_keys_is_told,
);

const HEAD: &str = "thv:rl:{ns:srv}:";

/// The server's time in microseconds.
async fn micros(server: &Server) -> u64 {
    let (seconds, micros): (u64, u64) = server.command("TIME").await;
    seconds * 1_000_000 + micros
}

/// A value as layout 2 stored it.
fn legacy_value(rate: &Rate, left: u64, at: u64) -> Vec<u8> {
    let seven = |value: u64| value.to_le_bytes()[..7].to_vec();
    let refill = u32::try_from(rate.refill()).unwrap().to_le_bytes().to_vec();
    [seven(rate.units(left).unsigned_abs()), seven(at), seven(rate.unit()), refill].concat()
}

async fn write_legacy(server: &Server, key: &str, rate: &Rate, left: u64) {
    let value = legacy_value(rate, left, micros(server).await);
    server.run::<()>(redis::cmd("SET").arg(format!("{HEAD}2:{key}")).arg(value)).await;
}

fn one_bucket_request(key: &str, rate: Rate, legacy_keys: LegacyKeys) -> AdmitRequest {
    let bucket =
        RemoteBucket { legacy_keys: Some(Arc::new(legacy_keys)), ..bucket(key, rate, 1, Mode::Enforce) };
    AdmitRequest { buckets: std::iter::once(bucket).collect() }
}

fn by_window_index(keys: &[&str], is_only_window: bool) -> LegacyKeys {
    let by_window_index = keys.iter().map(|key| (*key).to_owned()).collect();
    LegacyKeys { by_window_index, is_only_window, reference: None }
}

async fn levels_of_older_versions_are_found_by_their_rate(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let (day, minute) = (fixed_rate(500), Rate::new(60, Duration::from_secs(60), 60).unwrap());
    write_legacy(&server, "user:0:ann", &minute, 60).await;
    write_legacy(&server, "user:1:ann", &day, 400).await;
    let moved =
        one_bucket_request("user:86400s:ann", day, by_window_index(&["user:0:ann", "user:1:ann"], false));
    assert_eq!(tokens(&moved, &admit(&store, &moved).await.levels), [399]);
    // From now on only the new key counts.
    write_legacy(&server, "user:1:ann", &day, 100).await;
    assert_eq!(tokens(&moved, &admit(&store, &moved).await.levels), [398]);
    // Of two windows, one with another rate is no level of this bucket; of a limit with a single window it
    // is.
    let other = fixed_rate(90);
    write_legacy(&server, "shared:0", &fixed_rate(90).with_burst(90), 5).await;
    let faster = Rate::new(2, Duration::from_secs(86_400), 90).unwrap();
    let several = one_bucket_request("shared:several", faster, by_window_index(&["shared:0"], false));
    assert_eq!(tokens(&several, &admit(&store, &several).await.levels), [89]);
    let only = one_bucket_request("shared:only", faster, by_window_index(&["shared:0"], true));
    assert_eq!(tokens(&only, &admit(&store, &only).await.levels), [4]);
    let same = one_bucket_request("shared:same", other, by_window_index(&["shared:7", "shared:0"], false));
    assert_eq!(tokens(&same, &admit(&store, &same).await.levels), [4]);
}

async fn levels_of_the_reference_are_found(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let now = micros(&server).await;
    let hash = |key: &str, left: &str| {
        let mut command = redis::cmd("HSET");
        command.arg(format!("{HEAD}{key}")).arg("tokens").arg(left).arg("last_refill").arg(now);
        command
    };
    let found = |key: &str, reference: &str| {
        let reference = Some(reference.to_owned());
        one_bucket_request(key, fixed_rate(9), LegacyKeys { reference, ..by_window_index(&["none"], true) })
    };
    for (key, reference, left, expected) in [
        ("shared:1s", "shared", "4.75", 3),
        ("user:1s:d", "user:ann", "0.5", 0),
        ("shared:2s", "shared:tool:x", "1e9", 8),
        ("user:2s:d", "user-tool:x:ann", "-3", 0),
    ] {
        server.run::<i64>(&hash(reference, left)).await;
        let request = found(key, reference);
        assert_eq!(tokens(&request, &admit(&store, &request).await.levels), [expected], "{reference}");
    }
    // A value that is no level is ignored.
    server.run::<i64>(&hash("user:bob", "many")).await;
    server.run::<()>(redis::cmd("SET").arg(format!("{HEAD}user:eve")).arg("1")).await;
    for (key, reference) in
        [("user:1s:b", "user:bob"), ("user:1s:e", "user:eve"), ("user:1s:n", "user:nobody")]
    {
        let request = found(key, reference);
        assert_eq!(tokens(&request, &admit(&store, &request).await.levels), [8], "{reference}");
    }
}

async fn a_debt_finds_the_former_level_first(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let rate = fixed_rate(50);
    write_legacy(&server, "shared:0", &rate, 20).await;
    let request = one_bucket_request("shared:86400s", rate, by_window_index(&["shared:0"], true));
    store.adjust(&debt(&request.buckets[0], 5)).await.unwrap();
    assert_eq!(tokens(&request, &store.peek(&request).await.unwrap()), [15]);
}

async fn the_age_of_keys_is_told(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let young = store.key_age().expect("the store has answered");
    assert!(young < Duration::from_secs(60), "{young:?}");
    eventually("the keys grow older", async || store.key_age().unwrap() > young).await;
    // Another gateway reads the same age; a day of age is a day.
    let since = micros(&server).await / 1000 - 86_400_000;
    server.run::<()>(redis::cmd("SET").arg(format!("{HEAD}2:since")).arg(since)).await;
    let other = server.store_with_long_deadline().await;
    assert!(other.key_age().unwrap() >= Duration::from_secs(86_400));
}
