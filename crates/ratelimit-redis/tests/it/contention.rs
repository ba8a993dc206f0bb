//! Several replicas at once, in one process and in several: together they admit exactly what is allowed.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};

use crate::server::{Server, ServerKind, admit, admit_request, fixed_rate, wait_available};

/// The variable with the server's URL for the processes of [`three_processes_share_exactly`]; without it
/// [`worker`] does nothing.
const WORKER_URL: &str = "VMCP_RATELIMIT_WORKER_URL";

crate::on_both!(three_replicas_share_exactly, three_processes_share_exactly);

async fn three_replicas_share_exactly(kind: ServerKind) {
    let server = Server::start(kind).await;
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(server.store_with_long_deadline().await));
    }
    let mut tasks = Vec::new();
    for index in 0..96_usize {
        let store = stores[index % 3].clone();
        // All share one bucket, and each of eight users has a bucket of its own.
        let user = format!("user:0:{}", index % 8);
        tasks.push(tokio::spawn(async move {
            let request = admit_request(&[("shared:0", fixed_rate(777)), (&user, fixed_rate(90))]);
            let mut admitted = 0;
            for _ in 0..30 {
                admitted += u32::from(admit(&store, &request).await.admitted);
            }
            (index % 8, admitted)
        }));
    }
    let mut by_user = [0; 8];
    for task in tasks {
        let (user, admitted) = task.await.unwrap();
        by_user[user] += admitted;
    }
    assert!(by_user.iter().all(|admitted| *admitted <= 90), "{by_user:?}");
    // Eight users of 90 are 720, which is less than the limit of all together.
    assert_eq!(by_user.iter().sum::<u32>(), 720);
}

async fn work(url: &str) -> u32 {
    let target = StoreTarget::Single { url: ServerUrl::parse(url).unwrap() };
    let policy =
        RedisPolicy::new(target, "ns", "srv").unwrap().with_deadline(Duration::from_secs(10)).unwrap();
    let store = Arc::new(RedisStore::start(policy));
    wait_available(&store).await;
    let tasks: Vec<_> = (0..50_u32)
        .map(|index| {
            let store = store.clone();
            tokio::spawn(async move {
                let own = format!("user:0:{}", index % 25);
                let request = admit_request(&[("shared:0", fixed_rate(1500)), (&own, fixed_rate(1000))]);
                let mut admitted = 0;
                for _ in 0..40 {
                    admitted += u32::from(admit(&store, &request).await.admitted);
                }
                admitted
            })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    admitted
}

/// One of the processes of [`three_processes_share_exactly`]; it is a test in form only.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent process says what to do")]
fn worker() {
    let Ok(url) = std::env::var(WORKER_URL) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("admitted={};", runtime.block_on(work(&url)));
}

async fn three_processes_share_exactly(kind: ServerKind) {
    let server = Server::start(kind).await;
    let spawn = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "contention::worker", "--nocapture"]).env(WORKER_URL, server.url());
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let workers: Vec<_> = (0..3).map(|_| spawn()).collect();
    let mut admitted = 0;
    for worker in workers {
        let said = tokio::task::spawn_blocking(|| worker.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let (_, count) = said.split_once("admitted=").unwrap_or_else(|| panic!("no count: {said}"));
        admitted += count.split(';').next().unwrap().parse::<u32>().unwrap();
    }
    assert_eq!(admitted, 1500);
}
