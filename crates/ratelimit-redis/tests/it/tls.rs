//! TLS with an authority and a client identity of the tests. The certificates in `certificates/` were made
//! for these tests alone, are valid for a hundred years, and name `localhost`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use vmcp_ratelimit::RemoteStore as _;
use vmcp_ratelimit_redis::{RedisPolicy, RedisStore, ServerUrl, StoreTarget, Tls};

use crate::server::{
    ServerKind, admit, admit_request, eventually, fixed_rate, free_ports, is_installed, wait_available,
};

const AUTHORITY: &[u8] = include_bytes!("certificates/authority.pem");
const IDENTITY: (&[u8], &[u8]) =
    (include_bytes!("certificates/client.pem"), include_bytes!("certificates/client.key"));

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(port: u16) -> Server {
    let file = |name: &str| format!("{}/tests/it/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--tls-port", &port.to_string(), "--save", "", "--tls-auth-clients", "yes"]);
    command.args(["--tls-cert-file", &file("server.pem"), "--tls-key-file", &file("server.key")]);
    command.args(["--tls-ca-cert-file", &file("authority.pem")]);
    Server(command.stdout(Stdio::null()).spawn().unwrap())
}

fn store(port: u16, tls: Option<Tls>) -> RedisStore {
    let url = ServerUrl::parse(&format!("rediss://localhost:{port}")).unwrap();
    let policy = RedisPolicy::new(StoreTarget::Single { url }, "ns", "srv").unwrap();
    let policy = policy.with_deadline(Duration::from_secs(1)).unwrap();
    RedisStore::start(match tls {
        Some(tls) => policy.with_tls(tls).unwrap(),
        None => policy,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_trusts_and_is_trusted_gets_through() {
    if !is_installed(ServerKind::Redis) {
        return;
    }
    let port = free_ports(1)[0];
    let _server = start(port);
    let request = admit_request(&[("shared:0", fixed_rate(5))]);
    let trusting = store(port, Some(Tls::new(Some(AUTHORITY), Some(IDENTITY)).unwrap()));
    wait_available(&trusting).await;
    assert!(admit(&trusting, &request).await.admitted);
    for tls in [None, Some(Tls::new(Some(AUTHORITY), None).unwrap())] {
        let stranger = store(port, tls);
        eventually("it is known", async || stranger.admit(&request).await.is_err()).await;
        assert!(!stranger.is_available());
    }
}
