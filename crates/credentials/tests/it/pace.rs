//! What a kept credential costs. Prints its figures; the bounds are wide enough for a busy machine without
//! optimisation and narrow enough to notice an exchange or a lock that is held.

use std::time::{Duration, Instant};

use vmcp_credentials::{AwsSts, AwsStsPolicy, CredentialSource, Roles, Secret};

use crate::{Caller, apply, exchange_at, exchanges, granted, url, web};

const CALLS: u32 = 20_000;

async fn pace(name: &str, source: &dyn CredentialSource, caller: impl Fn() -> Caller) -> Duration {
    let first = caller();
    apply(source, Some(&first)).await.unwrap();
    // A caller each time is a token that comes with each request and is hashed each time.
    let callers: Vec<Caller> = (0..CALLS).map(|_| caller()).collect();
    let started = Instant::now();
    for caller in &callers {
        apply(source, Some(caller)).await.unwrap();
    }
    let hashed = started.elapsed() / CALLS;
    let started = Instant::now();
    for _call in 0..CALLS {
        apply(source, Some(&first)).await.unwrap();
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
    let web = web::answer(granted).await;
    let (_clock, exchanges) = exchanges();
    let caller = || {
        let token = Secret::new("eyJhbGciOiJSUzI1NiJ9.".repeat(48));
        Caller { token, ..Caller::new("ann", r#"{"aud":"vmcp","scope":"read write","azp":"app"}"#) }
    };
    let source = exchange_at(&web, &exchanges);
    assert!(pace("token_exchange", &source, caller).await < Duration::from_millis(1));
    assert_eq!(web.count(), 1);
    let sts = web::answer(|_hit| {
        web::text(
            200,
            "<r><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>key</SecretAccessKey>\
             <SessionToken>session</SessionToken><Expiration>2026-01-01T01:00:00Z</Expiration></Credentials></r>",
        )
    })
    .await;
    let roles = Roles::new(None, vec![], Some("arn:aws:iam::123456789012:role/r")).unwrap();
    let policy = AwsStsPolicy::new("eu-central-1", roles).unwrap().with_sts(url(&sts));
    let source = AwsSts::new(policy, exchanges);
    assert!(pace("aws_sts", &source, caller).await < Duration::from_millis(5));
    assert_eq!(sts.count(), 1);
}
