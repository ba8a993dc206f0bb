//! The number of replicas.

use std::time::Duration;

use vmcp_ratelimit::RemoteStore as _;
use vmcp_ratelimit_redis::RedisStore;

use crate::server::{Server, ServerKind, eventually};

crate::on_both!(replicas_are_counted_while_they_live);

async fn replicas_are_counted_while_they_live(kind: ServerKind) {
    let server = Server::start(kind).await;
    let start = || {
        let policy = server.policy().with_heartbeat(Duration::from_millis(100)).unwrap();
        RedisStore::start(policy.with_deadline(Duration::from_secs(10)).unwrap())
    };
    let mut stores: Vec<RedisStore> = (0..3).map(|_| start()).collect();
    let all = |stores: &[RedisStore], count| stores.iter().all(|store| store.replica_count() == Some(count));
    eventually("three are counted", async || all(&stores, 3)).await;
    stores.pop();
    eventually("two are left", async || all(&stores, 2)).await;
    stores.push(start());
    eventually("the third is back", async || all(&stores, 3)).await;
}
