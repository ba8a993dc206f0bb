//! A real cluster: three masters with a replica each.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use vmcp_ratelimit::{RemoteSlotLimit, RemoteStore as _, SlotReport, SlotStore as _};
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};

use crate::server::{
    ServerKind, admit, admit_request, eventually, fixed_rate, free_ports, is_installed, tokens,
    wait_available,
};
use crate::slots::{slot_limit, slot_request, take_slots};

struct Node {
    port: u16,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(dir: &std::path::Path, ports: (u16, u16)) -> Self {
        let folder = dir.join(ports.0.to_string());
        std::fs::create_dir(&folder).unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &ports.0.to_string(), "--cluster-port", &ports.1.to_string()])
            .args(["--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-node-timeout", "1500"])
            .args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"])
            .args(["--dir", &folder.display().to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { port: ports.0, child }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn connection(&self) -> Option<MultiplexedConnection> {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.ok()
    }

    async fn command(&self, words: &[&str]) -> Option<String> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection().await?).await.ok()
    }
}

async fn start(dir: &std::path::Path) -> Vec<Node> {
    let nodes: Vec<Node> =
        free_ports(12).chunks(2).map(|ports| Node::start(dir, (ports[0], ports[1]))).collect();
    for node in &nodes {
        eventually("a node answers", async || node.command(&["PING"]).await.is_some()).await;
    }
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
    create.args(["--cluster-replicas", "1", "--cluster-yes"]).stdout(Stdio::piped());
    let created = tokio::task::spawn_blocking(move || create.output()).await.unwrap().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    for node in &nodes {
        eventually("the cluster is whole", async || {
            let info = node.command(&["CLUSTER", "INFO"]).await.unwrap_or_default();
            let links = node.command(&["INFO", "replication"]).await.unwrap_or_default();
            let replicated = links.contains("master_link_status:up")
                || links.contains("connected_slaves:1") && links.contains("state=online");
            info.contains("cluster_state:ok") && replicated
        })
        .await;
    }
    nodes
}

/// The value of a key on a node, and whether the node is a master. `None` where the node does not have the
/// key.
async fn read_copy(node: &Node, key: &str) -> Option<(Vec<u8>, bool)> {
    let mut connection = node.connection().await?;
    // A replica serves reads itself only after `READONLY`.
    redis::cmd("READONLY").query_async::<()>(&mut connection).await.ok()?;
    let dump: Option<Vec<u8>> = redis::cmd("DUMP").arg(key).query_async(&mut connection).await.ok()?;
    let role = node.command(&["INFO", "replication"]).await?;
    Some((dump?, role.contains("role:master")))
}

/// The port of the master that holds a key, once its replica holds the same value.
async fn replicated(nodes: &[Node], key: &str) -> Option<u16> {
    let (mut master, mut replica) = (None, None);
    for node in nodes {
        match read_copy(node, key).await {
            Some((dump, true)) => master = Some((node.port, dump)),
            Some((dump, false)) => replica = Some(dump),
            None => {}
        }
    }
    let (port, dump) = master?;
    (replica? == dump).then_some(port)
}

/// The limits of each user may be in another partition than those of all callers; each partition decides in
/// one hash slot.
async fn check_slot_partitions(store: &RedisStore) {
    let lease = Duration::from_secs(60);
    let everybody = [slot_limit("slots:shared", 2), slot_limit("slots:shared:tool:a", 2)];
    for call in 1..=2 {
        eventually("an answer", async || {
            take_slots(store, &slot_request(call, &everybody, lease))
                .await
                .is_ok_and(|verdict| verdict.admitted)
        })
        .await;
    }
    for user in ["ann", "ben", "cyd", "dan"] {
        let own = [RemoteSlotLimit { partition: Some(user.into()), ..slot_limit("slots:user:x", 1) }];
        let told = |call| slot_request(call, &own, lease);
        eventually("an answer", async || {
            take_slots(store, &told(1)).await.is_ok_and(|verdict| verdict.admitted)
        })
        .await;
        eventually("an answer", async || {
            take_slots(store, &told(2)).await.is_ok_and(|verdict| !verdict.admitted && verdict.counts[0] == 1)
        })
        .await;
        let over = [SlotReport { key: "slots:user:x".into(), held: Vec::new(), ended: vec![told(1).call] }];
        eventually("an answer", async || store.report(Some(user), &over, lease).await.is_ok()).await;
        eventually("an answer", async || store.count(&own).await.is_ok_and(|counts| counts[0] == 0)).await;
    }
    let full = take_slots(store, &slot_request(3, &everybody, lease)).await;
    assert!(full.is_err() || full.is_ok_and(|verdict| !verdict.admitted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_decides_in_one_slot_and_survives_a_failover() {
    if !is_installed(ServerKind::Redis) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("vmcp-cluster-").tempdir().unwrap();
    let mut nodes = start(dir.path()).await;
    let urls = nodes.iter().map(|node| ServerUrl::parse(&node.url()).unwrap()).collect();
    let policy = RedisPolicy::new(StoreTarget::Cluster { urls }, "ns", "srv").unwrap();
    let store = RedisStore::start(policy.with_deadline(Duration::from_secs(1)).unwrap());
    wait_available(&store).await;
    let request = admit_request(&[
        ("shared:0", fixed_rate(1000)),
        ("shared:tool:a", fixed_rate(1000)),
        ("user:0:ann", fixed_rate(1000)),
        ("user-tool:a:ann", fixed_rate(30)),
    ]);
    for left in (0..30).rev() {
        let verdict = admit(&store, &request).await;
        assert!(verdict.admitted);
        assert_eq!(tokens(&request, &verdict.levels)[3], left);
    }
    assert!(!admit(&store, &request).await.admitted);
    check_slot_partitions(&store).await;
    // On a busy machine the cluster may have failed over already; what matters is which node holds the key
    // now.
    let key = "thv:rl:{ns:srv}:3:user-tool:a:ann";
    let mut master = None;
    eventually("the empty bucket is on two nodes", async || {
        let _ = store.admit(&request).await;
        let empty = store.peek(&request).await.is_ok_and(|levels| tokens(&request, &levels)[3] == 0);
        master = replicated(&nodes, key).await.filter(|_| empty);
        master.is_some()
    })
    .await;
    nodes.retain(|node| Some(node.port) != master);
    // The replica takes over with its copy: the budget is not fresh.
    let other = admit_request(&[("shared:0", fixed_rate(1000)), ("user:0:ben", fixed_rate(1000))]);
    eventually("the replica has taken over", async || {
        store.admit(&other).await.is_ok_and(|verdict| verdict.admitted)
    })
    .await;
    wait_available(&store).await;
    eventually("the bucket is still empty", async || {
        store.peek(&request).await.is_ok_and(|levels| tokens(&request, &levels)[3] == 0)
    })
    .await;
    assert!(!admit(&store, &request).await.admitted);
}
