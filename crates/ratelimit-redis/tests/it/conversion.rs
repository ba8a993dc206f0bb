//! A bucket that was written under another configuration holds the same number of tokens, never more.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{Ask, Micros, Rate, RemoteBucket};
use vmcp_ratelimit_redis::script::{Grant, Scripts};

use crate::server::{Kind, Server, bucket};

crate::on_both!(a_change_of_rate_mints_nothing, a_change_of_rate_keeps_tokens);

const START: u64 = 1 << 50;

fn rate() -> impl Strategy<Value = Rate> {
    let count = |bits: u32| (0..=bits, any::<u64>()).prop_map(|(bits, noise)| 1 + noise % (1 << bits));
    let any = (count(30), count(48), count(20));
    // Where one token is so many units that products of two do not fit into a double.
    let large = (count(4), count(2).prop_map(|below| (1 << 51) - below), 1_u64..4);
    prop_oneof![any, large].prop_filter_map("countable", |(tokens, micros, burst)| {
        Rate::new(tokens, Duration::from_micros(micros), burst).ok()
    })
}

/// The level after `elapsed` at the old rate, as the same number of tokens at the new one: exact, rounded down.
fn exact(level: i64, old: &Rate, new: &Rate, elapsed: u64) -> i128 {
    let wide = |value: u64| i128::from(value);
    let earned = (i128::from(level) + wide(elapsed) * wide(old.refill())).min(1 << 53);
    let settled = if elapsed == 0 { i128::from(level) } else { earned };
    let capacity = i128::from(new.capacity());
    let converted = if old.unit() == new.unit() {
        settled
    } else {
        (settled * wide(new.unit())).div_euclid(wide(old.unit()))
    };
    converted.clamp(-capacity, capacity)
}

async fn peek(
    connection: &mut redis::aio::MultiplexedConnection,
    scripts: &Scripts,
    bucket: &RemoteBucket,
    at: u64,
) -> i64 {
    let ask = Ask { buckets: std::iter::once(bucket.clone()).collect() };
    let command = scripts.admit(&ask, 0, Some(Micros(at))).by_text();
    Grant::read(&command.query_async(connection).await.unwrap(), 1).unwrap().levels[0]
}

async fn a_change_of_rate_mints_nothing(kind: Kind) {
    let server = Server::start(kind).await;
    let connection = server.connection().await;
    let scripts = Scripts::new("t:{a:b}:2:".to_owned());
    let runtime = tokio::runtime::Handle::current();
    let cases = (rate(), rate(), any::<u64>(), 0_u64..(1 << 40));
    let check = |(old, new, taken, elapsed): (Rate, Rate, u64, u64)| {
        runtime.block_on(async {
            let mut connection = connection.clone();
            redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
            let before = bucket("x", old, 1, Mode::Enforce);
            let taken = 1 + taken % (2 * old.burst());
            let command = scripts.debt(&before, taken, Some(Micros(START))).by_text();
            command.query_async::<i64>(&mut connection).await.unwrap();
            let level = peek(&mut connection, &scripts, &before, START).await;
            let found =
                peek(&mut connection, &scripts, &bucket("x", new, 1, Mode::Enforce), START + elapsed).await;
            let exact = exact(level, &old, &new, elapsed);
            prop_assert!(i128::from(found) <= exact, "minted: {found} of {exact}");
            // Where a product does not fit into a double, a share of 2^-49 is given away.
            let slack = 2 + (i128::from(new.unit()) >> 49);
            prop_assert!(i128::from(found) >= exact - slack, "lost: {found} of {exact}");
            Ok(())
        })
    };
    tokio::task::block_in_place(|| {
        let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&cases, check).unwrap();
    });
}

async fn a_change_of_rate_keeps_tokens(kind: Kind) {
    let server = Server::start(kind).await;
    let mut connection = server.connection().await;
    let scripts = Scripts::new("t:{a:b}:2:".to_owned());
    let minute = |tokens, burst| {
        bucket("x", Rate::new(tokens, Duration::from_secs(60), burst).unwrap(), 1, Mode::Enforce)
    };
    let taken = |bucket: &RemoteBucket, tokens| scripts.debt(bucket, tokens, Some(Micros(START))).by_text();
    taken(&minute(60, 60), 54).query_async::<i64>(&mut connection).await.unwrap();
    let mut holds = async |bucket: RemoteBucket, after: u64| {
        let level = peek(&mut connection, &scripts, &bucket, START + after).await;
        (bucket.rate.tokens(level), level % bucket.rate.units(1))
    };
    assert_eq!(holds(minute(60, 60), 0).await, (6, 0));
    // A larger bucket is not a fuller one, a smaller one is full, and what was earned was earned at the old rate.
    assert_eq!(holds(minute(600, 600), 0).await, (6, 0));
    assert_eq!(holds(minute(600, 600), 2_000_000).await, (8, 0));
    assert_eq!(holds(minute(7, 5), 0).await, (5, 0));
    assert_eq!(holds(minute(7, 7), 0).await, (6, 0));
    let half = minute(30, 30);
    assert_eq!(holds(half.clone(), 500_000).await, (6, half.rate.units(1) / 2));
}
