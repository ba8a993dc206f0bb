//! A real cluster: three masters with a replica each.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use vmcp_ratelimit::RemoteStore as _;
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, Target};

use crate::server::{admit, ask, available, eventually, fixed, redis_program, tokens};

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
        let child = Command::new(redis_program("redis-server"))
            .args(["--port", &ports.0.to_string(), "--cluster-port", &ports.1.to_string()])
            .args(["--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-node-timeout", "1000"])
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

    async fn ask(&self, words: &[&str]) -> Option<String> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection().await?).await.ok()
    }
}

/// Ports nobody listens on, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

async fn start(dir: &std::path::Path) -> Vec<Node> {
    let nodes: Vec<Node> =
        free_ports(12).chunks(2).map(|ports| Node::start(dir, (ports[0], ports[1]))).collect();
    for node in &nodes {
        eventually("a node answers", async || node.ask(&["PING"]).await.is_some()).await;
    }
    let mut create = Command::new(redis_program("redis-cli"));
    create.args(["--cluster", "create"]).args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
    create.args(["--cluster-replicas", "1", "--cluster-yes"]).stdout(Stdio::piped());
    let created = tokio::task::spawn_blocking(move || create.output()).await.unwrap().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    for node in &nodes {
        eventually("the cluster is whole", async || {
            let info = node.ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
            let links = node.ask(&["INFO", "replication"]).await.unwrap_or_default();
            let replicated = links.contains("master_link_status:up")
                || links.contains("connected_slaves:1") && links.contains("state=online");
            info.contains("cluster_state:ok") && replicated
        })
        .await;
    }
    nodes
}

/// Which node holds the buckets, and takes writes.
async fn holder(nodes: &[Node], key: &str) -> Option<u16> {
    for node in nodes {
        let Some(mut connection) = node.connection().await else { continue };
        let exists: Result<bool, _> = redis::cmd("EXISTS").arg(key).query_async(&mut connection).await;
        let role = node.ask(&["INFO", "replication"]).await.unwrap_or_default();
        if exists.is_ok_and(|exists| exists) && role.contains("role:master") {
            return Some(node.port);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_decides_in_one_slot_and_survives_a_failover() {
    let dir = tempfile::Builder::new().prefix("vmcp-cluster-").tempdir().unwrap();
    let mut nodes = start(dir.path()).await;
    let urls = nodes.iter().map(|node| ServerUrl::parse(&node.url()).unwrap()).collect();
    let policy = RedisPolicy::new(Target::Cluster { urls }, "ns", "srv").unwrap();
    let store = RedisStore::start(policy.with_deadline(Duration::from_secs(1)).unwrap());
    available(&store).await;
    let question = ask(&[
        ("shared:0", fixed(1000)),
        ("shared:tool:a", fixed(1000)),
        ("user:0:ann", fixed(1000)),
        ("user-tool:a:ann", fixed(30)),
    ]);
    for left in (0..30).rev() {
        let verdict = admit(&store, &question).await;
        assert!(verdict.admitted);
        assert_eq!(tokens(&question, &verdict.levels)[3], left);
    }
    assert!(!admit(&store, &question).await.admitted);
    let key = "thv:rl:{ns:srv}:2:shared:0";
    let master = holder(&nodes, key).await.expect("the key is somewhere");
    let copy = "WAIT";
    let node = nodes.iter().find(|node| node.port == master).unwrap();
    let mut connection = node.connection().await.unwrap();
    let copies: i64 = redis::cmd(copy).arg(1).arg(5000).query_async(&mut connection).await.unwrap();
    assert_eq!(copies, 1);
    nodes.retain(|node| node.port != master);
    // The replica takes over with what it has: the budget is not fresh.
    let other = ask(&[("shared:0", fixed(1000)), ("user:0:ben", fixed(1000))]);
    eventually("the replica has taken over", async || {
        store.admit(&other).await.is_ok_and(|verdict| verdict.admitted)
    })
    .await;
    available(&store).await;
    assert!(!admit(&store, &question).await.admitted);
    let left = tokens(&other, &store.peek(&other).await.unwrap());
    assert!(left[0] < 970, "{left:?}");
    assert_ne!(holder(&nodes, key).await, Some(master));
}
