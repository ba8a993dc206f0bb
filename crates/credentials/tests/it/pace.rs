//! The cost of a cached credential. It prints its figures. The limits are wide enough for a busy machine
//! without optimisation, and narrow enough to notice an exchange or a lock held too long.

use std::time::{Duration, Instant};

use vmcp_credentials::{AwsStsPolicy, AwsStsSource, CredentialSource, Roles, Secret};

use crate::{
    TestCaller, apply_credentials, exchange_context, exchange_source, granted_reply, token_url, web,
};

const CALLS: u32 = 20_000;

async fn measure(name: &str, source: &dyn CredentialSource, caller: impl Fn() -> TestCaller) -> Duration {
    let first = caller();
    apply_credentials(source, Some(&first)).await.unwrap();
    // A new caller each time: a token that arrives with each request is hashed each time.
    let callers: Vec<TestCaller> = (0..CALLS).map(|_| caller()).collect();
    let started = Instant::now();
    for caller in &callers {
        apply_credentials(source, Some(caller)).await.unwrap();
    }
    let hashed = started.elapsed() / CALLS;
    let started = Instant::now();
    for _call in 0..CALLS {
        apply_credentials(source, Some(&first)).await.unwrap();
    }
    let same = started.elapsed() / CALLS;
    let started = Instant::now();
    for _call in 0..CALLS {
        source.scope(Some(&first.subject())).unwrap();
    }
    let scope = started.elapsed() / CALLS;
    println!("{name}: a kept token {same:?}, hashed first {hashed:?}, scope {scope:?}");
    hashed.max(same).max(scope)
}

#[tokio::test]
async fn a_kept_credential_costs_microseconds() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let caller = || {
        let token = Secret::new("eyJhbGciOiJSUzI1NiJ9.".repeat(48));
        TestCaller { token, ..TestCaller::new("ann", r#"{"aud":"vmcp","scope":"read write","azp":"app"}"#) }
    };
    let source = exchange_source(&web, &exchanges);
    assert!(measure("token_exchange", &source, caller).await < Duration::from_millis(1));
    assert_eq!(web.requests().len(), 1);
    let sts = web::serve_sync(|_hit| {
        web::reply_text(
            200,
            "<r><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>key</SecretAccessKey>\
             <SessionToken>session</SessionToken><Expiration>2026-01-01T01:00:00Z</Expiration></Credentials></r>",
        )
    })
    .await;
    let roles = Roles::new(None, vec![], Some("arn:aws:iam::123456789012:role/r")).unwrap();
    let policy = AwsStsPolicy::new("eu-central-1", roles).unwrap().with_sts_url(token_url(&sts));
    let source = AwsStsSource::new(policy, exchanges);
    assert!(measure("aws_sts", &source, caller).await < Duration::from_millis(5));
    assert_eq!(sts.requests().len(), 1);
}
