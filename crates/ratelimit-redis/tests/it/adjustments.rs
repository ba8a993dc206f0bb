//! Refunds and debts.

use std::time::Duration;

use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{Ask, Change, Micros, Rate, RemoteStore as _};

use crate::server::{Kind, Server, admit, ask, bucket, debt, fixed, refund, tokens};

crate::on_both!(
    an_operator_fills_a_bucket_in_debt,
    a_refund_gives_back_what_was_paid,
    a_refund_makes_no_bucket_and_no_tokens,
    an_own_refund_ends_a_remembered_refusal,
    a_debt_is_paid_off_before_anything_passes,
);

async fn a_refund_gives_back_what_was_paid(kind: Kind) {
    let server = Server::start(kind).await;
    let store = server.patient().await;
    let mixed = Ask {
        buckets: [
            bucket("shared:0", fixed(9), 3, Mode::Enforce),
            bucket("shared:1", fixed(9), 3, Mode::Enforce),
            bucket("shared:2", fixed(2), 3, Mode::Shadow),
        ]
        .into_iter()
        .collect(),
    };
    let verdict = admit(&store, &mixed).await;
    assert_eq!(
        (tokens(&mixed, &verdict.levels), verdict.pays.to_vec()),
        (vec![6, 6, 2], vec![true, true, false])
    );
    store.change(&refund(&mixed, &verdict)).await.unwrap();
    assert_eq!(tokens(&mixed, &store.peek(&mixed).await.unwrap()), [9, 9, 2]);
    // Twice is not more than full.
    store.change(&refund(&mixed, &verdict)).await.unwrap();
    assert_eq!(tokens(&mixed, &store.peek(&mixed).await.unwrap()), [9, 9, 2]);
}

async fn a_refund_makes_no_bucket_and_no_tokens(kind: Kind) {
    let server = Server::start(kind).await;
    let store = server.patient().await;
    let one = ask(&[("shared:0", fixed(3))]);
    let change = Change { bucket: one.buckets[0].clone(), tokens: -1, paid_at: Some(Micros(1 << 51)) };
    store.change(&[change]).await.unwrap();
    assert!(!server.run::<bool>(redis::cmd("EXISTS").arg("thv:rl:{ns:srv}:3:shared:0")).await);
}

async fn an_own_refund_ends_a_remembered_refusal(kind: Kind) {
    let server = Server::start(kind).await;
    let store = server.patient().await;
    let one = ask(&[("shared:0", fixed(1))]);
    for _ in 0..20 {
        let verdict = admit(&store, &one).await;
        assert!(verdict.admitted);
        assert!(!admit(&store, &one).await.admitted);
        assert!(!admit(&store, &one).await.admitted);
        store.change(&refund(&one, &verdict)).await.unwrap();
    }
}

async fn a_debt_is_paid_off_before_anything_passes(kind: Kind) {
    let server = Server::start(kind).await;
    let store = server.patient().await;
    let rate = fixed(10);
    let one = ask(&[("shared:0", rate)]);
    store.change(&debt(&one.buckets[0], 4)).await.unwrap();
    assert_eq!(tokens(&one, &store.peek(&one).await.unwrap()), [6]);
    store.change(&debt(&one.buckets[0], 9)).await.unwrap();
    let level = store.peek(&one).await.unwrap()[0];
    assert!(level < -2 * rate.units(1) && level >= -3 * rate.units(1), "{level}");
    assert!(!admit(&store, &one).await.admitted);
    store.change(&debt(&one.buckets[0], u64::MAX)).await.unwrap();
    let level = store.peek(&one).await.unwrap()[0];
    assert!(level < -9 * rate.units(1) && level >= -rate.capacity(), "{level}");
    // A quick bucket is out of its debt by itself.
    let quick = Rate::new(1000, Duration::from_secs(1), 100).unwrap();
    let one = ask(&[("shared:1", quick)]);
    store.change(&debt(&one.buckets[0], 110)).await.unwrap();
    crate::server::eventually("the debt is paid off", async || admit(&store, &one).await.admitted).await;
}

/// What an operator gives fills a bucket out of the deepest debt.
async fn an_operator_fills_a_bucket_in_debt(kind: Kind) {
    let server = Server::start(kind).await;
    let store = server.patient().await;
    let one = ask(&[("shared:0", fixed(5))]);
    assert!(admit(&store, &one).await.admitted);
    store.change(&debt(&one.buckets[0], 100)).await.unwrap();
    assert_eq!(tokens(&one, &store.peek(&one).await.unwrap()), [0]);
    let bucket = vmcp_ratelimit::RemoteBucket { cost: u32::MAX, ..one.buckets[0].clone() };
    let given =
        vmcp_ratelimit::Change { bucket, tokens: -10, paid_at: Some(vmcp_ratelimit::Micros(1 << 52)) };
    store.change(&[given]).await.unwrap();
    assert_eq!(store.peek(&one).await.unwrap().as_slice(), [one.buckets[0].rate.capacity()]);
}
