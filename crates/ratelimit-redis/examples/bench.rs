//! Decisions a second through the store, compared with `redis-benchmark` on the same script call and the same
//! server, in alternating rounds. Also the server's CPU time for a decision and for a refusal. Trust ratios,
//! not absolute numbers.
//!
//! `cargo run --release -p vmcp-ratelimit-redis --example bench [TASKS [SECONDS [SERVER-PROGRAM]]]`

use std::error::Error;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{Adjustment, AdmitRequest, Rate, RemoteBucket, RemoteStore as _};
use vmcp_ratelimit_redis::script::Scripts;
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The number of users: enough that two equal requests at once are rare.
const USERS: u64 = 100_000;
const ROUNDS: usize = 5;

struct Server {
    child: Child,
    socket: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(program: &str, dir: &std::path::Path) -> Outcome<Self> {
        let socket = dir.join("s");
        let mut command = Command::new(program);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let child = command.arg("--dir").arg(dir).stdout(Stdio::null()).spawn()?;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, socket })
    }

    /// Nanoseconds of CPU time that the server's main thread has used.
    fn cpu_nanos(&self) -> Outcome<f64> {
        let id = self.child.id();
        let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/schedstat"))?;
        Ok(text.split(' ').next().unwrap_or_default().parse()?)
    }

    /// Calls one script with the same arguments over a number of connections. Returns the calls a second, and
    /// the server's microseconds for each.
    fn benchmark(&self, call: &BenchmarkCall, connections: usize, count: u64) -> Outcome<(f64, f64)> {
        let mut command = Command::new("redis-benchmark");
        command.arg("-s").arg(&self.socket);
        command.args(["-c", &connections.to_string(), "-n", &count.to_string(), "-r", &USERS.to_string()]);
        command.args(["--csv", "EVALSHA", &call.digest, &call.keys.len().to_string()]).args(&call.keys);
        let spent = self.cpu_nanos()?;
        let said = String::from_utf8(command.arg(&call.arg).output()?.stdout)?;
        let rate = said.lines().last().and_then(|line| line.split("\",\"").nth(1)).ok_or("no figures")?;
        Ok((rate.parse()?, (self.cpu_nanos()? - spent) / count as f64 / 1000.0))
    }
}

struct BenchmarkCall {
    digest: String,
    keys: Vec<String>,
    arg: String,
}

/// `redis-benchmark` cannot send zero bytes, so its script contains the argument and receives another one of
/// equal length.
async fn benchmark_call(
    server: &Server,
    scripts: &Scripts,
    request: &AdmitRequest,
) -> Outcome<BenchmarkCall> {
    let call = scripts.admit(request, 1, None);
    let keys = call.keys().into_iter().map(|key| key.replace("RAND", "__rand_int__")).collect();
    let arg = call.args().first().ok_or("no arguments")?;
    let literal: String = arg.iter().map(|byte| format!("\\{byte:03}")).collect();
    let text = scripts.admit.text().replace("ARGV[1]", &format!("'{literal}'"));
    let client = redis::Client::open(format!("unix://{}", server.socket.display()))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let digest = redis::cmd("SCRIPT").arg("LOAD").arg(text).query_async(&mut connection).await?;
    Ok(BenchmarkCall { digest, keys, arg: "x".repeat(arg.len()) })
}

fn four_bucket_request(user: &str, rate: Rate) -> AdmitRequest {
    let key = |text: String| RemoteBucket {
        key: text.into(),
        rate,
        cost: 1,
        mode: Mode::Enforce,
        shadow_rule: None,
        partition: None,
        period: None,
        legacy_keys: None,
    };
    let buckets = [
        key("shared:0".to_owned()),
        key("shared:tool:7:tools[a]:1:b:1:a:0".to_owned()),
        key(format!("user:0:{user}")),
        key(format!("user-tool:7:tools[a]:1:b:1:a:0:{user}")),
    ];
    AdmitRequest { buckets: buckets.into_iter().collect() }
}

/// Runs `tasks` tasks, as many as `redis-benchmark` has connections; each call is for another user.
async fn through_store(
    server: &Server,
    store: &Arc<RedisStore>,
    tasks: usize,
    time: Duration,
    rate: Rate,
) -> Outcome<(f64, f64)> {
    let spent = server.cpu_nanos()?;
    let start = Instant::now();
    let run = |seed: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut count, mut noise) = (0_u64, seed as u64 + 1);
            while start.elapsed() < time {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let user = format!("{:012}", (noise >> 33) % USERS);
                count += u64::from(
                    store
                        .admit(&four_bucket_request(&user, rate))
                        .await
                        .is_ok_and(|verdict| verdict.admitted),
                );
            }
            count
        })
    };
    let running: Vec<_> = (0..tasks).map(run).collect();
    let mut count = 0;
    for task in running {
        count += task.await?;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    Ok((rate, (server.cpu_nanos()? - spent) / count as f64 / 1000.0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let tasks: usize = args.next().map_or(Ok(50), |text| text.parse())?;
    let seconds: u64 = args.next().map_or(Ok(2), |text| text.parse())?;
    let program = args.next().unwrap_or_else(|| "redis-server".to_owned());
    let dir = tempfile::tempdir()?;
    let server = Server::start(&program, dir.path())?;
    let url = ServerUrl::parse(&format!("unix://{}", server.socket.display()))?;
    let policy = RedisPolicy::new(StoreTarget::Single { url }, "ns", "srv")?;
    let policy = policy.with_deadline(Duration::from_secs(10))?;
    let scripts = Scripts::new(policy.full_key_prefix());
    let store = Arc::new(RedisStore::start(policy));
    while !store.is_available() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let plenty = Rate::new(100_000, Duration::from_secs(1), 1_000_000)?;
    let one = Rate::new(1, Duration::from_secs(86_400), 1)?;
    // From here on the server has the script, and the bucket of the refusals is empty.
    store.admit(&four_bucket_request("warm", plenty)).await?;
    let mut short = four_bucket_request("RAND", plenty);
    if let Some(bucket) = short.buckets.first_mut() {
        *bucket = RemoteBucket { key: "shared:9".into(), rate: one, ..bucket.clone() };
        store.adjust(&[Adjustment { bucket: bucket.clone(), tokens: 1, paid_at: None }]).await?;
    }
    let decision = benchmark_call(&server, &scripts, &four_bucket_request("RAND", plenty)).await?;
    let refusal = benchmark_call(&server, &scripts, &short).await?;
    let (mut ratios, mut costs, mut rates) = (Vec::new(), [vec![], vec![], vec![]], [vec![], vec![]]);
    let count = 20_000 * seconds;
    for _ in 0..ROUNDS {
        let (ours, cost) =
            through_store(&server, &store, tasks, Duration::from_secs(seconds), plenty).await?;
        let (theirs, plain) = server.benchmark(&decision, tasks, count)?;
        let (_, refused) = server.benchmark(&refusal, tasks, count)?;
        println!(
            "{ours:.0}/s through the store, {theirs:.0}/s by redis-benchmark: {:.0} %",
            100.0 * ours / theirs
        );
        ratios.push(ours / theirs);
        for (costs, cost) in costs.iter_mut().zip([cost, plain, refused]) {
            costs.push(cost);
        }
        for (rates, rate) in rates.iter_mut().zip([ours, theirs]) {
            rates.push(rate);
        }
    }
    let [ours, theirs] = rates.map(median);
    let [cost, plain, refused] = costs.map(median);
    println!("median of {ROUNDS} rounds with {tasks} tasks or connections, four buckets a decision:");
    println!("  {ours:.0} against {theirs:.0} decisions a second: {:.0} %", 100.0 * median(ratios));
    println!("  server time: {cost:.1} µs a decision through the store, {plain:.1} µs by redis-benchmark,");
    println!("               {refused:.1} µs a refusal by redis-benchmark");
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_secs(seconds) {
        count += u32::from(store.admit(&short).await.is_ok_and(|verdict| !verdict.admitted));
    }
    let each = start.elapsed().as_nanos() as f64 / f64::from(count.max(1));
    println!("  a refusal that is known here: {each:.0} ns, asked of the server once a second");
    Ok(())
}
