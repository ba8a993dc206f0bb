//! The crate `vmcp-identity` against a third-party identity provider, without a gateway: signed and opaque
//! tokens, key rotation, revocation, and an outage.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own steps fail by panicking, those outside #[test] functions too"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio::runtime::Runtime;
use vmcp_domain::{Authenticator, Caller, Identity};
use vmcp_e2e::identity::{Format, GATEWAY, IdentityProvider};
use vmcp_identity::policy::{OidcPolicy, OidcSettings, Secret};
use vmcp_identity::{BearerAuthenticator, BearerPolicy};
use vmcp_json::Json;
use vmcp_timing::{Clock, Micros, SystemClock};

const RESOURCE: &str = "http://127.0.0.1:4483/mcp";
const KEYS: &str = "/jwks";
const INTROSPECTION: &str = "/token/introspection";

/// A clock whose uptime a test can advance, which expires cached keys and tokens. The time of day, which
/// validates tokens, is real.
struct AheadClock(AtomicU64);

impl Clock for AheadClock {
    fn now(&self) -> Micros {
        Duration::from_secs(self.0.load(Ordering::SeqCst)).into()
    }

    fn time_of_day(&self) -> Micros {
        SystemClock::start().time_of_day()
    }
}

struct AuthenticatorTest {
    runtime: Runtime,
    provider: IdentityProvider,
    clock: Arc<AheadClock>,
    authenticator: BearerAuthenticator,
}

impl AuthenticatorTest {
    fn start() -> anyhow::Result<Self> {
        let provider = IdentityProvider::start()?;
        let mut settings = OidcSettings::new(&provider.issuer, RESOURCE);
        settings.client_id = Some(GATEWAY.0.to_owned());
        settings.client_secret = Some(Secret::new(GATEWAY.1));
        settings.required_scopes = vec!["mcp".to_owned()];
        settings.allow_private_addresses = true;
        let policy = OidcPolicy::new(settings).unwrap();
        let clock = Arc::new(AheadClock(AtomicU64::new(0)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let authenticator =
            BearerAuthenticator::start(BearerPolicy::new("e2e", Some(policy), Vec::new())?, clock.clone())?;
        Ok(Self { runtime, provider, clock, authenticator })
    }

    /// The caller's identity, or the class of the refusal.
    fn ask(&self, token: &str) -> Result<Arc<Identity>, &'static str> {
        let header = format!("Bearer {token}");
        let admission = self.runtime.block_on(self.authenticator.authenticate(Some(header.as_bytes()), None));
        match admission.map_err(|refusal| refusal.class())?.caller {
            Caller::Known(identity) => Ok(identity),
            Caller::Anonymous => panic!("a token that names nobody"),
        }
    }

    fn class(&self, token: &str) -> &'static str {
        self.ask(token).err().unwrap_or("admitted")
    }
}

#[test]
fn users_and_machines_are_recognised_by_both_kinds_of_token() -> anyhow::Result<()> {
    let scene = AuthenticatorTest::start()?;
    for format in [Format::Signed, Format::Opaque] {
        let wanted = json!({"sub": "alice", "resource": RESOURCE, "claims": {"groups": ["ops", "dev"]}});
        let token = scene.provider.token(format, wanted)?;
        ensure!(token.split('.').count() == if format == Format::Signed { 3 } else { 1 }, "{token}");
        let identity = scene.ask(&token).unwrap();
        assert_eq!((&identity.issuer, &*identity.subject), (&scene.provider.issuer, "alice"));
        assert_eq!(identity.claims.get("groups").map(Json::as_str), Some(r#"["ops","dev"]"#));
        assert!(Arc::ptr_eq(&identity, &scene.ask(&token).unwrap()));
    }
    let machine = scene.provider.machine_token(RESOURCE, "mcp")?;
    assert_eq!(scene.ask(&machine).unwrap().subject, "machine");
    assert_eq!((scene.provider.count(KEYS)?, scene.provider.count(INTROSPECTION)?), (1, 1));
    Ok(())
}

#[test]
fn tokens_for_others_and_without_the_scope_are_refused() -> anyhow::Result<()> {
    let scene = AuthenticatorTest::start()?;
    for format in [Format::Signed, Format::Opaque] {
        let elsewhere = scene.provider.user_token(format, "alice", "https://other.example/mcp")?;
        assert_eq!(scene.class(&elsewhere), "audience");
        let narrow = json!({"sub": "alice", "resource": RESOURCE, "scope": "tools"});
        assert_eq!(scene.class(&scene.provider.token(format, narrow)?), "scope");
    }
    let stranger = IdentityProvider::start()?;
    let foreign = stranger.user_token(Format::Signed, "alice", RESOURCE)?;
    assert_eq!(scene.class(&foreign), "unknown_key");
    assert_eq!(scene.class("never-issued"), "inactive");
    Ok(())
}

#[test]
fn new_keys_are_found_and_old_ones_forgotten() -> anyhow::Result<()> {
    let scene = AuthenticatorTest::start()?;
    let token = || scene.provider.user_token(Format::Signed, "alice", RESOURCE);
    let first = token()?;
    assert_eq!(scene.class(&first), "admitted");
    scene.provider.rotate_keys(true)?;
    let second = token()?;
    assert_eq!((scene.class(&second), scene.class(&first)), ("admitted", "admitted"));
    assert_eq!(scene.provider.count(KEYS)?, 2);
    scene.provider.rotate_keys(false)?;
    scene.clock.0.fetch_add(301, Ordering::SeqCst);
    assert_eq!((scene.class(&token()?), scene.class(&second)), ("admitted", "unknown_key"));
    Ok(())
}

#[test]
fn an_opaque_token_taken_back_is_refused_within_a_minute() -> anyhow::Result<()> {
    let scene = AuthenticatorTest::start()?;
    let token = scene.provider.user_token(Format::Opaque, "alice", RESOURCE)?;
    assert_eq!(scene.provider.introspect(&token)?["sub"], "alice");
    assert_eq!(scene.class(&token), "admitted");
    scene.provider.revoke(&token)?;
    assert_eq!(scene.provider.introspect(&token)?, json!({"active": false}));
    scene.clock.0.fetch_add(60, Ordering::SeqCst);
    assert_eq!(scene.class(&token), "inactive");
    Ok(())
}

#[test]
fn an_outage_is_survived_on_known_keys() -> anyhow::Result<()> {
    let scene = AuthenticatorTest::start()?;
    let token = scene.provider.user_token(Format::Signed, "alice", RESOURCE)?;
    assert_eq!(scene.class(&token), "admitted");
    scene.provider.set_outage(503)?;
    scene.clock.0.fetch_add(400, Ordering::SeqCst);
    assert_eq!(scene.class(&token), "admitted");
    assert_eq!(scene.class("opaque"), "unavailable");
    scene.clock.0.fetch_add(3600, Ordering::SeqCst);
    assert_eq!(scene.class(&token), "unavailable");
    scene.provider.set_outage(0)?;
    scene.clock.0.fetch_add(1, Ordering::SeqCst);
    assert_eq!(scene.class(&token), "admitted");
    Ok(())
}
