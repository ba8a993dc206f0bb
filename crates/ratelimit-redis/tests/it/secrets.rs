//! Users, passwords and databases reach the server, and no text contains them.

use std::time::Duration;

use vmcp_ratelimit::RemoteStore as _;
use vmcp_ratelimit_redis::{Password, RedisPolicy, RedisStore, ServerUrl, StoreTarget};

use crate::server::{
    Server, ServerKind, admit, admit_request, eventually, fixed_rate, tokens, wait_available,
};

crate::on_both!(a_user_with_little_leave_is_enough, a_wrong_password_is_a_failure);

fn policy(server: &Server, password: &str) -> RedisPolicy {
    let credentials = (Some("limiter".to_owned()), Some(Password::new(password.to_owned())));
    let policy = server.policy().with_credentials(credentials.0, credentials.1);
    policy.with_db(3).unwrap().with_deadline(Duration::from_secs(10)).unwrap()
}

/// Allows only the commands that the crate's documentation requires for buckets, and `SELECT`.
async fn restrict(server: &Server) {
    let leave = "+evalsha +eval +time +mget +set +zadd +zremrangebyscore +zcard +pexpire +select";
    server.command::<()>(&format!("ACL SETUSER limiter on >s3cret ~thv:rl:* {leave}")).await;
}

async fn a_user_with_little_leave_is_enough(kind: ServerKind) {
    let server = Server::start(kind).await;
    restrict(&server).await;
    let store = RedisStore::start(policy(&server, "s3cret"));
    wait_available(&store).await;
    let request = admit_request(&[("shared:0", fixed_rate(2))]);
    assert!(admit(&store, &request).await.admitted);
    assert_eq!(tokens(&request, &store.peek(&request).await.unwrap()), [1]);
    let keys: i64 = server.command("DBSIZE").await;
    assert_eq!(keys, 0, "another database was named");
}

async fn a_wrong_password_is_a_failure(kind: ServerKind) {
    let server = Server::start(kind).await;
    restrict(&server).await;
    let store = RedisStore::start(policy(&server, "wrong"));
    let request = admit_request(&[("shared:0", fixed_rate(2))]);
    eventually("it is known", async || store.admit(&request).await.is_err()).await;
    assert!(!store.is_available());
    restrict(&server).await;
    server.command::<()>("ACL SETUSER limiter >wrong").await;
    wait_available(&store).await;
    assert!(admit(&store, &request).await.admitted);
}

#[test]
fn no_text_shows_a_password() {
    let url = ServerUrl::parse("redis://limiter:s3cret@example.test:6380/2").unwrap();
    let policy = RedisPolicy::new(StoreTarget::Single { url }, "ns", "srv").unwrap();
    let policy = policy.with_credentials(None, Some(Password::new("s3cret".to_owned())));
    let text = format!("{policy:?}");
    assert!(!text.contains("s3cret"), "{text}");
    assert!(text.contains("example.test:6380"), "{text}");
}
