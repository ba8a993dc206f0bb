//! A scripted identity provider, signing keys, and manual clocks.

mod idp;
mod signer;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vmcp_domain::{Authentication, Authenticator, Identity, Unauthorized};
use vmcp_identity::policy::{OidcPolicy, OidcSettings};
use vmcp_identity::{BearerAuthenticator, BearerPolicy};
use vmcp_timing::ManualClock;

pub(crate) use self::idp::{Idp, Reply};
pub(crate) use self::signer::{Signer, encode};

/// The longest wait of a test.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The start of the tests' wall clock, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;
/// The audience of the tokens.
pub(crate) const AUDIENCE: &str = "https://mcp.example/mcp";

/// A clock that starts at [`NOW`].
pub(crate) fn manual_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Duration::from_secs(NOW)))
}

/// An authenticator with its own identity provider.
pub(crate) struct Setup {
    pub(crate) idp: Idp,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authenticator: Arc<BearerAuthenticator>,
}

pub(crate) async fn setup() -> Setup {
    setup_with(|_| {}).await
}

/// Starts a provider that publishes the key of [`Signer::issuer`], and an authenticator for it.
pub(crate) async fn setup_with(change: impl FnOnce(&mut OidcSettings)) -> Setup {
    let idp = Idp::start().await;
    let mut settings = settings(&idp);
    change(&mut settings);
    let clock = manual_clock();
    let policy = OidcPolicy::new(settings).unwrap();
    let policy = BearerPolicy::new("vmcp", Some(policy), Vec::new()).unwrap();
    let authenticator = BearerAuthenticator::start(policy, clock.clone()).unwrap();
    Setup { idp, clock, authenticator: Arc::new(authenticator) }
}

pub(crate) fn settings(idp: &Idp) -> OidcSettings {
    let mut settings = OidcSettings::new(&idp.issuer, AUDIENCE);
    settings.allow_private_addresses = true;
    settings
}

impl Setup {
    pub(crate) async fn admit(&self, token: &str) -> Result<Authentication, Unauthorized> {
        let header = format!("Bearer {token}");
        within_timeout(self.authenticator.authenticate(Some(header.as_bytes()), None)).await
    }

    pub(crate) async fn identity(&self, token: &str) -> Arc<Identity> {
        match self.admit(token).await.unwrap().caller {
            vmcp_domain::Caller::Known(identity) => identity,
            vmcp_domain::Caller::Anonymous => panic!("nobody"),
        }
    }

    /// The class of the refusal, or `admitted`.
    pub(crate) async fn refusal_class(&self, token: &str) -> &'static str {
        match self.admit(token).await {
            Ok(_) => "admitted",
            Err(refusal) => refusal.class(),
        }
    }

    /// The claims of a valid token.
    pub(crate) fn claims(&self) -> Value {
        json!({
            "iss": self.idp.issuer,
            "sub": "alice",
            "aud": AUDIENCE,
            "iat": NOW,
            "exp": NOW + 3600,
            "scope": "mcp tools",
            "groups": ["ops", "dev"],
        })
    }

    /// A valid token.
    pub(crate) fn token(&self) -> String {
        Signer::issuer().token(&json!({"typ": "at+jwt"}), &self.claims())
    }
}

/// Awaits `future` for at most [`TIMEOUT`].
pub(crate) async fn within_timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("waited too long")
}
