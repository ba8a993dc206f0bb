//! A bucket that was written under another configuration lacks the same number of tokens, never fewer.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{AdmitRequest, Rate, RemoteBucket};
use vmcp_ratelimit_redis::script::{AdmitGrant, Scripts};
use vmcp_timing::Micros;

use crate::server::{Server, ServerKind, bucket, debt};

crate::on_both!(a_change_of_rate_mints_nothing, a_change_of_rate_keeps_what_is_missing);

const START: u64 = 1 << 50;

fn rate() -> impl Strategy<Value = Rate> {
    let count = |bits: u32| (0..=bits, any::<u64>()).prop_map(|(bits, noise)| 1 + noise % (1 << bits));
    let any = (count(30), count(48), count(20));
    // One token is a number of units near 2^51 here; a product of two such numbers does not fit into a
    // double.
    let large = (count(4), count(2).prop_map(|below| (1 << 51) - below), 1_u64..4);
    prop_oneof![any, large].prop_filter_map("countable", |(tokens, micros, burst)| {
        Rate::new(tokens, Duration::from_micros(micros), burst).ok()
    })
}

/// The level of the new bucket that lacks as many tokens as the old one `elapsed` later: exact, rounded down.
fn exact(level: i64, old: &Rate, new: &Rate, elapsed: u64) -> i128 {
    let wide = |value: u64| i128::from(value);
    let (full, capacity) = (i128::from(old.capacity()), i128::from(new.capacity()));
    let held = (i128::from(level) + wide(elapsed) * wide(old.refill())).min(full);
    let lacks = (full - held) * wide(new.unit());
    capacity - ((lacks + wide(old.unit()) - 1) / wide(old.unit())).min(2 * capacity)
}

async fn peek(
    connection: &mut redis::aio::MultiplexedConnection,
    scripts: &Scripts,
    bucket: &RemoteBucket,
    at: u64,
) -> i64 {
    let request = AdmitRequest { buckets: std::iter::once(bucket.clone()).collect() };
    let command = scripts.admit(&request, 0, Some(Micros(at))).by_text();
    AdmitGrant::read(&command.query_async(connection).await.unwrap(), 1).unwrap().levels[0]
}

async fn a_change_of_rate_mints_nothing(kind: ServerKind) {
    let server = Server::start(kind).await;
    let connection = server.connection().await;
    let scripts = Scripts::new("t:{a:b}:".to_owned());
    let runtime = tokio::runtime::Handle::current();
    let cases = (rate(), rate(), any::<u64>(), 0_u64..(1 << 40));
    let check = |(old, new, taken, elapsed): (Rate, Rate, u64, u64)| {
        runtime.block_on(async {
            let mut connection = connection.clone();
            redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
            let before = bucket("x", old, 1, Mode::Enforce);
            let taken = 1 + taken % (2 * old.burst());
            let command = scripts.adjust(&debt(&before, taken), Some(Micros(START))).by_text();
            command.query_async::<i64>(&mut connection).await.unwrap();
            let level = peek(&mut connection, &scripts, &before, START).await;
            let found =
                peek(&mut connection, &scripts, &bucket("x", new, 1, Mode::Enforce), START + elapsed).await;
            let exact = exact(level, &old, &new, elapsed);
            prop_assert!(i128::from(found) <= exact, "minted: {found} of {exact}");
            // Where a product does not fit into a double, a fraction of 2^-49 is lost.
            let slack =
                4 + (i128::from(new.unit()) >> 49) + 3 * i128::from(new.unit()) / i128::from(old.unit());
            prop_assert!(i128::from(found) >= exact - slack, "lost: {found} of {exact}");
            Ok(())
        })
    };
    // More is missing than 2^53 units, and an odd number of them.
    let rate = |tokens, micros| Rate::new(tokens, Duration::from_micros(micros), 3).unwrap();
    let (old, new) = (rate(2, 2_251_799_813_685_246), rate(1, 2_251_799_813_685_245));
    let above_exact = (old, new, 10_404_963_168_161_499_047, 87_023_058_799);
    tokio::task::block_in_place(|| {
        check(above_exact).unwrap();
        let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&cases, check).unwrap();
    });
}

async fn a_change_of_rate_keeps_what_is_missing(kind: ServerKind) {
    let server = Server::start(kind).await;
    let mut connection = server.connection().await;
    let scripts = Scripts::new("t:{a:b}:".to_owned());
    let minute = |tokens, burst| {
        bucket("x", Rate::new(tokens, Duration::from_secs(60), burst).unwrap(), 1, Mode::Enforce)
    };
    let taken =
        |bucket: &RemoteBucket, tokens| scripts.adjust(&debt(bucket, tokens), Some(Micros(START))).by_text();
    taken(&minute(60, 60), 54).query_async::<i64>(&mut connection).await.unwrap();
    let mut holds = async |bucket: RemoteBucket, after: u64| {
        let level = peek(&mut connection, &scripts, &bucket, START + after).await;
        (bucket.rate.tokens(level), level % bucket.rate.units(1))
    };
    assert_eq!(holds(minute(60, 60), 0).await, (6, 0));
    // What was spent stays spent, and what was refilled was refilled at the old rate.
    assert_eq!(holds(minute(600, 600), 0).await, (546, 0));
    assert_eq!(holds(minute(600, 600), 2_000_000).await, (548, 0));
    // A bucket that has become smaller than what was spent is in debt.
    assert_eq!(holds(minute(54, 54), 0).await, (0, 0));
    assert_eq!(
        holds(minute(50, 50), 0).await,
        (0, -4 * minute(50, 50).rate.units(1) % minute(50, 50).rate.units(1))
    );
    assert_eq!(holds(minute(50, 50), 4_000_000).await, (0, 0));
    assert_eq!(holds(minute(50, 50), 5_000_000).await, (1, 0));
    let half = minute(30, 30);
    assert_eq!(holds(half.clone(), 30_500_000).await, (6, half.rate.units(1) / 2));
}
