//! Refunds and debts.

use std::time::Duration;

use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{Adjustment, AdmitRequest, Rate, RemoteStore as _};
use vmcp_timing::Micros;

use crate::server::{Server, ServerKind, admit, admit_request, bucket, debt, fixed_rate, refund, tokens};

crate::on_both!(
    an_operator_fills_a_bucket_in_debt,
    a_refund_gives_back_what_was_paid,
    a_refund_makes_no_bucket_and_no_tokens,
    an_own_refund_ends_a_remembered_refusal,
    a_debt_is_paid_off_before_anything_passes,
);

async fn a_refund_gives_back_what_was_paid(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let mixed = AdmitRequest {
        buckets: [
            bucket("shared:0", fixed_rate(9), 3, Mode::Enforce),
            bucket("shared:1", fixed_rate(9), 3, Mode::Enforce),
            bucket("shared:2", fixed_rate(2), 3, Mode::Shadow),
        ]
        .into_iter()
        .collect(),
    };
    let verdict = admit(&store, &mixed).await;
    assert_eq!(
        (tokens(&mixed, &verdict.levels), verdict.pays.to_vec()),
        (vec![6, 6, 2], vec![true, true, false])
    );
    store.adjust(&refund(&mixed, &verdict)).await.unwrap();
    assert_eq!(tokens(&mixed, &store.peek(&mixed).await.unwrap()), [9, 9, 2]);
    // A second refund fills the bucket no further than full.
    store.adjust(&refund(&mixed, &verdict)).await.unwrap();
    assert_eq!(tokens(&mixed, &store.peek(&mixed).await.unwrap()), [9, 9, 2]);
}

async fn a_refund_makes_no_bucket_and_no_tokens(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let one = admit_request(&[("shared:0", fixed_rate(3))]);
    let change = Adjustment { bucket: one.buckets[0].clone(), tokens: -1, paid_at: Some(Micros(1 << 51)) };
    store.adjust(&[change]).await.unwrap();
    assert!(!server.run::<bool>(redis::cmd("EXISTS").arg("thv:rl:{ns:srv}:3:shared:0")).await);
}

async fn an_own_refund_ends_a_remembered_refusal(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let one = admit_request(&[("shared:0", fixed_rate(1))]);
    for _ in 0..20 {
        let verdict = admit(&store, &one).await;
        assert!(verdict.admitted);
        assert!(!admit(&store, &one).await.admitted);
        assert!(!admit(&store, &one).await.admitted);
        store.adjust(&refund(&one, &verdict)).await.unwrap();
    }
}

async fn a_debt_is_paid_off_before_anything_passes(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let rate = fixed_rate(10);
    let one = admit_request(&[("shared:0", rate)]);
    store.adjust(&debt(&one.buckets[0], 4)).await.unwrap();
    assert_eq!(tokens(&one, &store.peek(&one).await.unwrap()), [6]);
    store.adjust(&debt(&one.buckets[0], 9)).await.unwrap();
    let level = store.peek(&one).await.unwrap()[0];
    assert!(level < -2 * rate.units(1) && level >= -3 * rate.units(1), "{level}");
    assert!(!admit(&store, &one).await.admitted);
    store.adjust(&debt(&one.buckets[0], u64::MAX)).await.unwrap();
    let level = store.peek(&one).await.unwrap()[0];
    assert!(level < -9 * rate.units(1) && level >= -rate.capacity(), "{level}");
    // A bucket with a fast refill leaves its debt without a refund.
    let quick = Rate::new(1000, Duration::from_secs(1), 100).unwrap();
    let one = admit_request(&[("shared:1", quick)]);
    store.adjust(&debt(&one.buckets[0], 110)).await.unwrap();
    crate::server::eventually("the debt is paid off", async || admit(&store, &one).await.admitted).await;
}

/// A grant by an operator fills a bucket from the deepest debt.
async fn an_operator_fills_a_bucket_in_debt(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let one = admit_request(&[("shared:0", fixed_rate(5))]);
    assert!(admit(&store, &one).await.admitted);
    store.adjust(&debt(&one.buckets[0], 100)).await.unwrap();
    assert_eq!(tokens(&one, &store.peek(&one).await.unwrap()), [0]);
    let bucket = vmcp_ratelimit::RemoteBucket { cost: u32::MAX, ..one.buckets[0].clone() };
    let given =
        vmcp_ratelimit::Adjustment { bucket, tokens: -10, paid_at: Some(vmcp_timing::Micros(1 << 52)) };
    store.adjust(&[given]).await.unwrap();
    assert_eq!(store.peek(&one).await.unwrap().as_slice(), [one.buckets[0].rate.capacity()]);
}
