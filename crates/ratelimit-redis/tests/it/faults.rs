//! Servers that hang, die, lose their data, refuse or are unreachable: no call waits for them, and the store
//! reconnects.

use std::time::Duration;

use rustix::process::Signal;
use vmcp_ratelimit::{RemoteStore as _, StoreFailure};
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};

use crate::server::{
    Server, ServerKind, admit, admit_request, attempt, debt, eventually, fixed_rate, refund, tokens,
    wait_available,
};

crate::on_both!(
    a_server_that_hangs_is_not_waited_for,
    a_server_that_restarts_empty_is_found_again,
    a_replica_is_not_written_to,
    a_full_server_refuses,
    a_flushed_script_is_brought_again,
    a_server_that_comes_late_is_found,
    a_server_that_begins_to_evict_is_noticed,
);

/// Sends requests until the circuit opens. Each of them fails within the time limit of `attempt`.
async fn fail_until_circuit_opens(
    store: &RedisStore,
    request: &vmcp_ratelimit::AdmitRequest,
) -> Vec<StoreFailure> {
    let mut failures = Vec::new();
    eventually("the store rests", async || match attempt(store, request).await {
        Err(StoreFailure::CircuitOpen) => true,
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

async fn a_server_that_hangs_is_not_waited_for(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    wait_available(&store).await;
    let request = admit_request(&[("shared:0", fixed_rate(1000))]);
    for _ in 0..2 {
        admit(&store, &request).await;
        server.signal(Signal::STOP);
        let failures = fail_until_circuit_opens(&store, &request).await;
        assert!(failures.iter().all(|failure| *failure == StoreFailure::Timeout), "{failures:?}");
        // Long enough for the connection to be replaced as well.
        for _ in 0..150 {
            assert!(attempt(&store, &request).await.is_err());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.signal(Signal::CONT);
        wait_available(&store).await;
    }
    // Requests whose reply timed out may have been executed: at least the admitted calls are paid, possibly
    // more.
    admit(&store, &request).await;
    assert!(tokens(&request, &store.peek(&request).await.unwrap())[0] <= 997);
}

async fn a_server_that_restarts_empty_is_found_again(kind: ServerKind) {
    let mut server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    wait_available(&store).await;
    let request = admit_request(&[("shared:0", fixed_rate(3))]);
    for _ in 0..3 {
        assert!(admit(&store, &request).await.admitted);
    }
    assert!(!admit(&store, &request).await.admitted);
    server.kill();
    let other = admit_request(&[("shared:1", fixed_rate(3))]);
    let failures = fail_until_circuit_opens(&store, &other).await;
    assert!(failures.iter().all(|failure| *failure != StoreFailure::Refused), "{failures:?}");
    server.restart().await;
    wait_available(&store).await;
    eventually("the fresh bucket is seen", async || admit(&store, &request).await.admitted).await;
}

async fn a_replica_is_not_written_to(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    wait_available(&store).await;
    let request = admit_request(&[("shared:0", fixed_rate(1000))]);
    admit(&store, &request).await;
    server.command::<()>("REPLICAOF 127.0.0.1 1").await;
    let failures = fail_until_circuit_opens(&store, &request).await;
    assert!(failures.contains(&StoreFailure::Refused), "{failures:?}");
    server.command::<()>("REPLICAOF NO ONE").await;
    wait_available(&store).await;
    assert!(admit(&store, &request).await.admitted);
}

async fn a_full_server_refuses(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = RedisStore::start(server.policy());
    wait_available(&store).await;
    let both = admit_request(&[("shared:0", fixed_rate(1000)), ("user:0:ann", fixed_rate(1000))]);
    admit(&store, &both).await;
    server.command::<()>("CONFIG SET maxmemory 1").await;
    let failures = fail_until_circuit_opens(&store, &both).await;
    assert!(failures.iter().all(|failure| *failure == StoreFailure::Refused), "{failures:?}");
    server.command::<()>("CONFIG SET maxmemory 0").await;
    wait_available(&store).await;
    assert!(admit(&store, &both).await.admitted);
    // Nothing was written in between: neither bucket has paid without the other.
    let left = tokens(&both, &store.peek(&both).await.unwrap());
    assert_eq!(left[0], left[1]);
}

async fn a_flushed_script_is_brought_again(kind: ServerKind) {
    let server = Server::start(kind).await;
    let store = server.store_with_long_deadline().await;
    let request = admit_request(&[("shared:0", fixed_rate(1000))]);
    for round in 1..=5 {
        server.command::<()>("SCRIPT FLUSH").await;
        let verdict = store.admit(&request).await.unwrap();
        assert!(verdict.admitted);
        server.command::<()>("SCRIPT FLUSH").await;
        store.adjust(&refund(&request, &verdict)).await.unwrap();
        store.adjust(&debt(&request.buckets[0], 1)).await.unwrap();
        assert_eq!(tokens(&request, &store.peek(&request).await.unwrap()), [1000 - round]);
    }
}

async fn a_server_that_comes_late_is_found(kind: ServerKind) {
    let mut server = Server::start(kind).await;
    server.kill();
    let store = RedisStore::start(server.policy());
    let request = admit_request(&[("shared:0", fixed_rate(1000))]);
    assert_eq!(store.replica_count(), None);
    let failures = fail_until_circuit_opens(&store, &request).await;
    assert!(failures.iter().all(|failure| *failure == StoreFailure::Disconnected), "{failures:?}");
    server.restart().await;
    wait_available(&store).await;
    assert!(admit(&store, &request).await.admitted);
    assert_eq!(store.replica_count(), Some(1));
}

/// A server that accepts connections and never replies counts as unreachable.
#[tokio::test]
async fn a_silent_listener_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let target = StoreTarget::Single { url: ServerUrl::parse(&url).unwrap() };
    let store = RedisStore::start(RedisPolicy::new(target, "ns", "srv").unwrap());
    let request = admit_request(&[("shared:0", fixed_rate(1000))]);
    let failures = fail_until_circuit_opens(&store, &request).await;
    assert!(!failures.is_empty());
    assert!(attempt(&store, &request).await.is_err());
    assert_eq!(store.peek(&request).await, Err(StoreFailure::CircuitOpen));
    assert_eq!(store.adjust(&debt(&request.buckets[0], 1)).await, Err(StoreFailure::CircuitOpen));
}

/// Settings can be changed while a server runs.
async fn a_server_that_begins_to_evict_is_noticed(kind: ServerKind) {
    let server = Server::start(kind).await;
    let policy = server.policy().with_heartbeat(Duration::from_millis(20)).unwrap();
    let store = RedisStore::start(policy.with_deadline(Duration::from_secs(10)).unwrap());
    wait_available(&store).await;
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
