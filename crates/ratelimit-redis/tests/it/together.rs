//! Many calls at once: equal requests are coalesced into one, and a cached refusal is not asked again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vmcp_ratelimit::{RemoteStore as _, StoreFailure};
use vmcp_ratelimit_redis::RedisStore;

use crate::server::{
    Server, ServerKind, admit, admit_request, eventually, fixed_rate, is_installed, tokens, wait_available,
};

crate::on_both!(
    callers_of_one_question_share_a_call,
    the_line_is_served_in_order,
    those_who_give_up_pay_nothing_and_harm_nobody,
    a_flood_of_refusals_is_answered_here,
    a_burst_is_no_failure_of_the_store,
    a_remembered_refusal_counts_for_every_price,
);

async fn callers_of_one_question_share_a_call(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = Arc::new(server.store_with_long_deadline().await);
    let request = Arc::new(admit_request(&[("shared:0", fixed_rate(500)), ("user:0:ann", fixed_rate(120))]));
    let before = server.call_count("evalsha").await;
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (store, request) = (store.clone(), request.clone());
            tokio::spawn(async move { store.admit(&request).await.unwrap().admitted })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += u32::from(task.await.unwrap());
    }
    assert_eq!(admitted, 120);
    let calls = server.call_count("evalsha").await - before;
    assert!(calls < 40, "{calls} calls for 200 callers");
    assert_eq!(tokens(&request, &store.peek(&request).await.unwrap()), [380, 0]);
}

/// The remaining tokens that each call receives are as if the calls had asked one after the other.
async fn the_line_is_served_in_order(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = Arc::new(server.store_with_long_deadline().await);
    let request = admit_request(&[("shared:0", fixed_rate(50))]);
    let mut left: Vec<(bool, u64)> = Vec::new();
    let line = async {
        let calls = (0..60).map(|_| store.admit(&request));
        // A call joins the queue when it is first polled, here in order.
        let mut calls: Vec<_> = calls.collect();
        let mut done: Vec<Option<(bool, u64)>> = vec![None; calls.len()];
        std::future::poll_fn(|context| {
            for (call, done) in calls.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
                if let std::task::Poll::Ready(verdict) = call.as_mut().poll(context) {
                    let verdict = verdict.unwrap();
                    *done = Some((verdict.admitted, tokens(&request, &verdict.levels)[0]));
                }
            }
            if done.contains(&None) { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
        done
    };
    left.extend(line.await.into_iter().flatten());
    let expected: Vec<(bool, u64)> =
        (0..60).map(|index| (index < 50, 49_u64.saturating_sub(index))).collect();
    assert_eq!(left, expected);
}

async fn those_who_give_up_pay_nothing_and_harm_nobody(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = Arc::new(server.store_with_long_deadline().await);
    let request = Arc::new(admit_request(&[("shared:0", fixed_rate(1000))]));
    let mut admitted = 0;
    for round in 0..20 {
        let mut tasks = Vec::new();
        for _ in 0..20 {
            let (store, request) = (store.clone(), request.clone());
            tasks.push(tokio::spawn(async move { store.admit(&request).await.unwrap().admitted }));
        }
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        // The first call is the leader in most rounds.
        for task in tasks.drain(..10) {
            task.abort();
            admitted += u32::from(task.await.is_ok_and(|admitted| admitted));
        }
        for task in tasks {
            admitted += u32::from(task.await.unwrap());
        }
    }
    assert!(admitted >= 200, "{admitted}");
    // What the cancelled calls paid is refunded, to the last token.
    eventually("all is given back", async || {
        1000 - tokens(&request, &store.peek(&request).await.unwrap())[0] == u64::from(admitted)
    })
    .await;
}

async fn a_flood_of_refusals_is_answered_here(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let request = admit_request(&[("shared:0", fixed_rate(1000)), ("user:0:ann", fixed_rate(1))]);
    assert!(admit(&store, &request).await.admitted);
    let before = server.call_count("evalsha").await;
    let start = Instant::now();
    let wait = request.buckets[1].rate.wait(0, request.buckets[1].rate.units(1));
    for _ in 0..5000 {
        let verdict = admit(&store, &request).await;
        assert!(!verdict.admitted);
        assert_eq!(verdict.pays.as_slice(), [false, false]);
        let rate = request.buckets[1].rate;
        let left = rate.wait(verdict.levels[1], rate.units(1));
        assert!(left <= wait && left + 60_000_000 > wait, "{left}");
        assert_eq!(tokens(&request, &verdict.levels), [999, 0]);
    }
    let calls = server.call_count("evalsha").await - before;
    // One request a second, and the heartbeats.
    assert!(calls <= 5 + 3 * start.elapsed().as_secs(), "{calls} calls in {:?}", start.elapsed());
}

async fn a_remembered_refusal_counts_for_every_price(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let dear = |cost| {
        let mut request = admit_request(&[("shared:0", fixed_rate(10))]);
        request.buckets[0].cost = cost;
        request
    };
    assert!(admit(&store, &dear(4)).await.admitted);
    for _ in 0..3 {
        assert!(!admit(&store, &dear(7)).await.admitted);
    }
    // A refusal of a high price says nothing about a lower one.
    assert!(admit(&store, &dear(6)).await.admitted);
    assert!(!admit(&store, &dear(1)).await.admitted);
}

#[tokio::test]
async fn background_tasks_end_with_the_store() {
    if !is_installed(ServerKind::Redis) {
        return;
    }
    let server = Server::start(ServerKind::Redis).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let stores: Vec<RedisStore> = (0..5).map(|_| RedisStore::start(server.policy())).collect();
    for store in &stores {
        wait_available(store).await;
        admit(store, &admit_request(&[("shared:0", fixed_rate(100))])).await;
    }
    assert!(metrics.num_alive_tasks() > before);
    drop(stores);
    eventually("all tasks have ended", async || {
        tokio::time::sleep(Duration::from_millis(1)).await;
        metrics.num_alive_tasks() <= before
    })
    .await;
}

/// More calls at once than the queue holds: those beyond it fail as overloaded, and no other call fails.
async fn a_burst_is_no_failure_of_the_store(kind: ServerKind) {
    const CALLS: usize = 6000;
    let server = Server::start(kind).await;
    let store = Arc::new(server.store_with_long_deadline().await);
    let request = Arc::new(admit_request(&[("user:0:ann", fixed_rate(5000))]));
    let start = Arc::new(tokio::sync::Barrier::new(CALLS));
    let tasks: Vec<_> = (0..CALLS)
        .map(|_| {
            let (store, request, start) = (store.clone(), request.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                store.admit(&request).await
            })
        })
        .collect();
    let (mut admitted, mut refused, mut full) = (0, 0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(verdict) if verdict.admitted => admitted += 1,
            Ok(_) => refused += 1,
            Err(StoreFailure::Overloaded) => full += 1,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert_eq!(admitted + refused + full, CALLS);
    assert!(admitted <= 5000 && (full > 0 || admitted == 5000), "{admitted} {refused} {full}");
    assert!(store.is_available());
}
