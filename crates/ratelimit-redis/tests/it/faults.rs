//! Servers that hang, die, forget, refuse or are not there: no call waits for them, and they are found again.

use std::time::Duration;

use rustix::process::Signal;
use vmcp_ratelimit::{RemoteStore as _, StoreFailure};
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, Target};

use crate::server::{Kind, Server, admit, ask, attempt, available, debt, eventually, fixed, refund, tokens};

crate::on_both!(
    a_server_that_hangs_is_not_waited_for,
    a_server_that_restarts_empty_is_found_again,
    a_replica_is_not_written_to,
    a_full_server_refuses,
    a_flushed_script_is_brought_again,
    a_server_that_comes_late_is_found,
    a_server_that_begins_to_evict_is_noticed,
);

/// Attempts until the store rests. Every one of them ends soon, and none passes.
async fn rests(store: &RedisStore, question: &vmcp_ratelimit::Ask) -> Vec<StoreFailure> {
    let mut failures = Vec::new();
    eventually("the store rests", async || match attempt(store, question).await {
        Err(StoreFailure::Resting) => true,
        Err(failure) => {
            failures.push(failure);
            false
        }
        Ok(_) => false,
    })
    .await;
    assert!(!store.is_available());
    failures
}

async fn a_server_that_hangs_is_not_waited_for(kind: Kind) {
    let server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    available(&store).await;
    let question = ask(&[("shared:0", fixed(1000))]);
    for _ in 0..2 {
        admit(&store, &question).await;
        server.signal(Signal::STOP);
        let failures = rests(&store, &question).await;
        assert!(failures.iter().all(|failure| *failure == StoreFailure::Timeout), "{failures:?}");
        // Long enough for the connection to be given up as well.
        for _ in 0..150 {
            assert!(attempt(&store, &question).await.is_err());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.signal(Signal::CONT);
        available(&store).await;
    }
    // What was sent before the answer was given up may have been carried out: never more passes than was paid for.
    admit(&store, &question).await;
    assert!(tokens(&question, &store.peek(&question).await.unwrap())[0] <= 997);
}

async fn a_server_that_restarts_empty_is_found_again(kind: Kind) {
    let mut server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    available(&store).await;
    let question = ask(&[("shared:0", fixed(3))]);
    for _ in 0..3 {
        assert!(admit(&store, &question).await.admitted);
    }
    assert!(!admit(&store, &question).await.admitted);
    server.kill();
    let other = ask(&[("shared:1", fixed(3))]);
    let failures = rests(&store, &other).await;
    assert!(failures.iter().all(|failure| *failure != StoreFailure::Refused), "{failures:?}");
    server.restart().await;
    available(&store).await;
    eventually("the fresh bucket is seen", async || admit(&store, &question).await.admitted).await;
}

async fn a_replica_is_not_written_to(kind: Kind) {
    let server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    available(&store).await;
    let question = ask(&[("shared:0", fixed(1000))]);
    admit(&store, &question).await;
    server.say::<()>("REPLICAOF 127.0.0.1 1").await;
    let failures = rests(&store, &question).await;
    assert!(failures.contains(&StoreFailure::Refused), "{failures:?}");
    server.say::<()>("REPLICAOF NO ONE").await;
    available(&store).await;
    assert!(admit(&store, &question).await.admitted);
}

async fn a_full_server_refuses(kind: Kind) {
    let server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    available(&store).await;
    let both = ask(&[("shared:0", fixed(1000)), ("user:0:ann", fixed(1000))]);
    admit(&store, &both).await;
    server.say::<()>("CONFIG SET maxmemory 1").await;
    let failures = rests(&store, &both).await;
    assert!(failures.iter().all(|failure| *failure == StoreFailure::Refused), "{failures:?}");
    server.say::<()>("CONFIG SET maxmemory 0").await;
    available(&store).await;
    assert!(admit(&store, &both).await.admitted);
    // Nothing was written in between: neither bucket has paid without the other.
    let left = tokens(&both, &store.peek(&both).await.unwrap());
    assert_eq!(left[0], left[1]);
}

async fn a_flushed_script_is_brought_again(kind: Kind) {
    let server = Server::start(kind).await;
    let store = server.patient().await;
    let question = ask(&[("shared:0", fixed(1000))]);
    for round in 1..=5 {
        server.say::<()>("SCRIPT FLUSH").await;
        let verdict = store.admit(&question).await.unwrap();
        assert!(verdict.admitted);
        server.say::<()>("SCRIPT FLUSH").await;
        store.change(&refund(&question, &verdict)).await.unwrap();
        store.change(&debt(&question.buckets[0], 1)).await.unwrap();
        assert_eq!(tokens(&question, &store.peek(&question).await.unwrap()), [1000 - round]);
    }
}

async fn a_server_that_comes_late_is_found(kind: Kind) {
    let mut server = Server::start(kind).await;
    server.kill();
    let store = RedisStore::start(server.policy());
    let question = ask(&[("shared:0", fixed(1000))]);
    assert_eq!(store.replica_count(), None);
    let failures = rests(&store, &question).await;
    assert!(failures.iter().all(|failure| *failure == StoreFailure::Unconnected), "{failures:?}");
    server.restart().await;
    available(&store).await;
    assert!(admit(&store, &question).await.admitted);
    assert_eq!(store.replica_count(), Some(1));
}

/// A server that takes connections and never says a word is as good as none.
#[tokio::test]
async fn a_silent_listener_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let target = Target::Single { url: ServerUrl::parse(&url).unwrap() };
    let store = RedisStore::start(RedisPolicy::new(target, "ns", "srv").unwrap());
    let question = ask(&[("shared:0", fixed(1000))]);
    let failures = rests(&store, &question).await;
    assert!(!failures.is_empty());
    assert!(attempt(&store, &question).await.is_err());
    assert_eq!(store.peek(&question).await, Err(StoreFailure::Resting));
    assert_eq!(store.change(&debt(&question.buckets[0], 1)).await, Err(StoreFailure::Resting));
}

/// Settings can be changed while a server runs.
async fn a_server_that_begins_to_evict_is_noticed(kind: Kind) {
    let server = Server::start(kind).await;
    let policy = server.policy().with_heartbeat(Duration::from_millis(20)).unwrap();
    let store = RedisStore::start(policy.with_deadline(Duration::from_secs(10)).unwrap());
    available(&store).await;
    assert_eq!(store.warnings(), Vec::<String>::new());
    let set = async |name: &str, value: &str| -> String {
        server.run(redis::cmd("CONFIG").arg("SET").arg(name).arg(value)).await
    };
    set("maxmemory-policy", "allkeys-lru").await;
    set("maxmemory", "500mb").await;
    eventually("the change is noticed", async || {
        store.warnings().iter().any(|warning| warning.contains("allkeys-lru"))
    })
    .await;
    set("maxmemory-policy", "noeviction").await;
    eventually("it is noticed that it was mended", async || store.warnings().is_empty()).await;
}
