//! Calendar quotas: whole tokens that are counted exactly, and kept until their period is over.

use std::time::{Duration, SystemTime};

use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{Adjustment, AdmitRequest, Period, Rate, RemoteBucket, RemoteStore as _};
use vmcp_timing::Micros;

use crate::server::{Server, ServerKind, admit, tokens};

crate::on_both!(a_period_is_counted_exactly_and_kept_until_its_end, what_is_given_back_stays_in_its_period);

const HOUR: u64 = 3_600_000_000;

#[allow(clippy::disallowed_methods, reason = "the period has to be the present one of the server")]
fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Micros(u64::try_from(since.as_micros()).unwrap())
}

/// A bucket of a number of calls in a period that ends in three hours.
fn quota(calls: u64) -> RemoteBucket {
    let (start, end) = (Micros(now().0 - HOUR), now().plus(3 * HOUR));
    RemoteBucket {
        key: format!("user:day@UTC~0000.{}:ann", start.0 / 1_000_000).into(),
        rate: Rate::per_calendar_period(calls, Duration::from_secs(86_400)).unwrap(),
        cost: 1,
        mode: Mode::Enforce,
        shadow_rule: None,
        partition: None,
        period: Some(Period { start, end }),
        legacy_keys: None,
    }
}

fn one_bucket_request(bucket: &RemoteBucket) -> AdmitRequest {
    AdmitRequest { buckets: std::iter::once(bucket.clone()).collect() }
}

async fn a_period_is_counted_exactly_and_kept_until_its_end(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let bucket = quota(3);
    let request = one_bucket_request(&bucket);
    for left in [2, 1, 0] {
        let verdict = admit(&store, &request).await;
        assert!(verdict.admitted);
        assert_eq!(tokens(&request, &verdict.levels), [left]);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!admit(&store, &request).await.admitted, "nothing is earned");
    let another = server.store_with_long_deadline().await;
    assert!(!admit(&another, &request).await.admitted);
    // Another size in the same period: what is spent stays spent.
    let larger =
        RemoteBucket { rate: Rate::per_calendar_period(5, Duration::from_secs(86_400)).unwrap(), ..bucket };
    assert_eq!(
        tokens(&one_bucket_request(&larger), &another.peek(&one_bucket_request(&larger)).await.unwrap()),
        [2]
    );
    let keys: Vec<String> = server.command("KEYS *day@UTC*").await;
    let [key] = keys.as_slice() else { panic!("{keys:?}") };
    let kept: u64 = server.command(&format!("PTTL {key}")).await;
    let (least, most) = (3 * 3_600_000, 28 * 3_600_000);
    assert!((least..most).contains(&kept), "kept for {kept} ms");
}

async fn what_is_given_back_stays_in_its_period(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let bucket = quota(3);
    let request = one_bucket_request(&bucket);
    let at = admit(&store, &request).await.at;
    assert!(admit(&store, &request).await.admitted);
    let change = |tokens: i64| [Adjustment { bucket: bucket.clone(), tokens, paid_at: Some(at) }];
    store.adjust(&change(-1)).await.unwrap();
    assert_eq!(tokens(&request, &store.peek(&request).await.unwrap()), [2]);
    store.adjust(&change(-9)).await.unwrap();
    assert_eq!(tokens(&request, &store.peek(&request).await.unwrap()), [3], "never more than the quota");
    store.adjust(&change(5)).await.unwrap();
    assert_eq!(
        store.peek(&request).await.unwrap().as_slice(),
        [-2],
        "what a call turned out to cost is owed"
    );
    assert!(!admit(&store, &request).await.admitted);
}
