//! A real sentinel over a master and its replica: the store follows the master.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use vmcp_ratelimit::RemoteStore as _;
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};

use crate::server::{
    ServerKind, admit, admit_request, eventually, fixed_rate, free_ports, is_installed, tokens,
    wait_available,
};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server with a configuration of its own, which a sentinel rewrites.
fn start(dir: &Path, port: u16, settings: &str, args: &[&str]) -> Process {
    let file = dir.join(format!("{port}.conf"));
    let folder = dir.join(port.to_string());
    std::fs::create_dir(&folder).unwrap();
    let text = format!("port {port}\nbind 127.0.0.1\ndir {}\n{settings}\n", folder.display());
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("redis-server");
    Process(command.arg(&file).args(args).stdout(Stdio::null()).spawn().unwrap())
}

async fn command(port: u16, words: &str) -> Option<String> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next()?);
    words.for_each(|word| {
        command.arg(word);
    });
    let value: redis::Value = command.query_async(&mut connection).await.ok()?;
    let redis::Value::BulkString(text) = value else { return Some(format!("{value:?}")) };
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_follows_the_master() {
    if !is_installed(ServerKind::Redis) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("vmcp-sentinel-").tempdir().unwrap();
    let ports = free_ports(3);
    let quiet = "save \"\"\nappendonly no\nrepl-diskless-sync-delay 0";
    let master = start(dir.path(), ports[0], quiet, &[]);
    let _replica = start(dir.path(), ports[1], &format!("{quiet}\nreplicaof 127.0.0.1 {}", ports[0]), &[]);
    eventually("the replica follows", async || {
        command(ports[1], "INFO replication").await.is_some_and(|info| info.contains("master_link_status:up"))
    })
    .await;
    let watch = format!(
        "sentinel monitor limits 127.0.0.1 {} 1\nsentinel down-after-milliseconds limits 500\n\
         sentinel failover-timeout limits 3000",
        ports[0]
    );
    let _sentinel = start(dir.path(), ports[2], &watch, &["--sentinel"]);
    eventually("the sentinel knows the replica", async || {
        let known = command(ports[2], "SENTINEL REPLICAS limits").await;
        known.is_some_and(|known| known.contains(&ports[1].to_string()))
    })
    .await;

    let url = ServerUrl::parse(&format!("redis://127.0.0.1:{}", ports[2])).unwrap();
    let target = StoreTarget::Sentinel { urls: vec![url], master: "limits".to_owned() };
    let policy = RedisPolicy::new(target, "ns", "srv").unwrap();
    let store = RedisStore::start(policy.with_deadline(Duration::from_secs(1)).unwrap());
    wait_available(&store).await;
    let request = admit_request(&[("shared:0", fixed_rate(1000))]);
    for _ in 0..10 {
        assert!(admit(&store, &request).await.admitted);
    }
    eventually("the replica has it", async || {
        command(ports[1], "EXISTS thv:rl:{ns:srv}:3:shared:0").await.is_some_and(|found| found == "int(1)")
    })
    .await;
    drop(master);
    eventually("the store rests", async || store.admit(&request).await.is_err()).await;
    wait_available(&store).await;
    assert!(admit(&store, &request).await.admitted);
    let left = tokens(&request, &store.peek(&request).await.unwrap());
    assert!(left[0] < 1000, "{left:?}");
}
