//! Opaque tokens: the issuer introspects them (RFC 7662), once for all concurrent requests with the same
//! token. Its positive or negative answer is cached for a short time. A failure to answer is not cached.

pub(crate) mod introspection_queue;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use vmcp_domain::{InvalidTokenReason, Unauthorized};
use vmcp_json::Json;
use vmcp_timing::Clock;

use crate::fetcher::{FetchError, Fetcher, Form};
use crate::introspection::introspection_queue::{IntrospectionQueue, WAITING_MAX};
use crate::jwt::VerifiedCaller;
use crate::jwt::claims::{self, ClaimsSource};
use crate::jwt::key_store::KeyStore;
use crate::policy::{IntrospectionClient, OidcPolicy};
use crate::token_cache::{self, Digest, Now, TokenCache, Validity};

/// How long an active token is accepted before it is introspected again. A revocation is noticed this late.
pub(crate) const ACTIVE_TTL: Duration = Duration::from_secs(60);
/// How long an inactive token is rejected before it is introspected again.
const INACTIVE_TTL: Duration = Duration::from_secs(10);
/// How long a token counts as known good, which gives it priority over unknown tokens.
const KNOWN_GOOD_TTL: Duration = Duration::from_mins(10);
/// The pause after an issuer failed to answer.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

type Verification = Result<VerifiedCaller, Unauthorized>;

/// Introspects the tokens of one issuer.
pub(crate) struct Introspector {
    policy: Arc<OidcPolicy>,
    /// The introspection endpoint; `None` when discovery finds it.
    endpoint: Option<Uri>,
    client: IntrospectionClient,
    key_store: Arc<KeyStore>,
    fetcher: Arc<Fetcher>,
    clock: Arc<dyn Clock>,
    scopes: Arc<[String]>,
    cache: TokenCache<Verification>,
    /// The tokens that were active recently.
    known_good: TokenCache<()>,
    queue: IntrospectionQueue,
    pending: Mutex<PendingIntrospections>,
}

/// The pending introspection requests.
#[derive(Default)]
struct PendingIntrospections {
    requests: HashMap<Digest, Arc<OnceCell<Verification>>>,
    /// No request is sent before this uptime.
    paused_until: Duration,
}

/// The parts of an introspector.
pub(crate) struct IntrospectorParts {
    pub(crate) policy: Arc<OidcPolicy>,
    pub(crate) endpoint: Option<Uri>,
    pub(crate) client: IntrospectionClient,
    pub(crate) key_store: Arc<KeyStore>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Introspector {
    pub(crate) fn new(parts: IntrospectorParts) -> Self {
        let IntrospectorParts { policy, endpoint: address, client, key_store, fetcher, clock } = parts;
        let scopes = policy.required_scopes.clone().into();
        let (cache, known, queue) = (TokenCache::new(), TokenCache::new(), IntrospectionQueue::new());
        let pending = Mutex::default();
        Self {
            policy,
            endpoint: address,
            client,
            key_store,
            fetcher,
            clock,
            scopes,
            cache,
            known_good: known,
            queue,
            pending,
        }
    }

    /// Verifies a token that came from `address`, and returns its caller.
    pub(crate) async fn verify(&self, token: &str, address: Option<IpAddr>) -> Verification {
        let digest = token_cache::digest(token);
        if let Some(known) = self.cache.get(&digest, self.now()) {
            return known;
        }
        let is_known = self.known_good.get(&digest, self.now()).is_some();
        let pending_introspection = self.join_or_start(digest, is_known)?;
        // If the leading request is cancelled, the next one in the queue introspects again.
        let outcome = pending_introspection
            .cell
            .get_or_init(|| self.introspect_in_turn(token, digest, (address, is_known)))
            .await;
        outcome.clone()
    }

    /// Joins the pending introspection of a token, or starts one.
    fn join_or_start(
        &self,
        digest: Digest,
        is_known: bool,
    ) -> Result<PendingIntrospection<'_>, Unauthorized> {
        let mut pending = self.pending.lock();
        let cell = match pending.requests.get(&digest) {
            Some(cell) => Arc::clone(cell),
            None if (pending.requests.len() >= WAITING_MAX && !is_known)
                || self.clock.now().as_duration() < pending.paused_until =>
            {
                return Err(Unauthorized::Unavailable);
            }
            None => Arc::clone(pending.requests.entry(digest).or_default()),
        };
        Ok(PendingIntrospection { introspector: self, digest, cell })
    }

    async fn introspect_in_turn(
        &self,
        token: &str,
        digest: Digest,
        (address, is_known): (Option<IpAddr>, bool),
    ) -> Verification {
        let Some(_permit) = self.queue.acquire(address, is_known).await else {
            return Err(Unauthorized::Unavailable);
        };
        if self.clock.now().as_duration() < self.pending.lock().paused_until {
            return Err(Unauthorized::Unavailable);
        }
        self.introspect(token, digest).await
    }

    async fn introspect(&self, token: &str, digest: Digest) -> Verification {
        let document = match self.request_introspection(token).await {
            Ok(document) => document,
            Err(error) => {
                tracing::warn!(issuer = %self.policy.issuer, %error, "the issuer does not tell about tokens");
                self.pending.lock().paused_until = self.clock.now().as_duration() + FAILURE_PAUSE;
                return Err(Unauthorized::Unavailable);
            }
        };
        let now = self.now();
        let outcome = self.evaluate_response(&document, now.unix_s);
        let (ttl, expires_unix_s) = match &outcome {
            Ok(recognised) => (ACTIVE_TTL, recognised.expires_unix_s),
            Err(_) => (INACTIVE_TTL, None),
        };
        if outcome.is_ok() {
            let validity = Validity { forget_at: now.uptime + KNOWN_GOOD_TTL, expires_unix_s };
            self.known_good.replace(digest, (), validity, now);
        }
        let validity = Validity { forget_at: now.uptime + ttl, expires_unix_s };
        self.cache.get_or_insert(digest, outcome, validity, now)
    }

    async fn request_introspection(&self, token: &str) -> Result<Json, FetchError> {
        let (address, is_secret_in_form) = match &self.endpoint {
            Some(address) => (address.clone(), false),
            None => {
                let snapshot = self.key_store.current().await;
                let snapshot = snapshot.map_err(|_| FetchError::Invalid("discovery has failed"))?;
                let found = snapshot.metadata.introspection_uri.clone();
                let found = found.ok_or(FetchError::Invalid("it names no `introspection_endpoint`"))?;
                (found, snapshot.metadata.is_secret_in_form)
            }
        };
        let form = build_form(token, &self.client, is_secret_in_form)?;
        self.fetcher.post(&address, form).await
    }

    fn evaluate_response(&self, document: &Json, now_s: u64) -> Verification {
        let claims = document.members().map_err(|_| Unauthorized::Unavailable)?;
        let active = claims.get("active").and_then(|active| active.decode::<bool>().ok());
        if active != Some(true) {
            return Err(Unauthorized::InvalidToken(InvalidTokenReason::Inactive));
        }
        let valid = claims::validate(claims, ClaimsSource::Introspection, &self.policy, now_s)
            .map_err(Unauthorized::InvalidToken)?;
        if !valid.has_required_scopes {
            return Err(Unauthorized::InsufficientScope { required: Arc::clone(&self.scopes) });
        }
        Ok(VerifiedCaller { identity: Arc::new(valid.identity), expires_unix_s: valid.expires_unix_s })
    }

    fn now(&self) -> Now {
        Now {
            uptime: self.clock.now().as_duration(),
            unix_s: self.clock.time_of_day().as_secs(),
            generation: 0,
        }
    }
}

/// A request that waits for an introspection. The last one to leave removes the pending entry.
struct PendingIntrospection<'a> {
    introspector: &'a Introspector,
    digest: Digest,
    cell: Arc<OnceCell<Verification>>,
}

impl Drop for PendingIntrospection<'_> {
    fn drop(&mut self) {
        let mut pending = self.introspector.pending.lock();
        // Released under the lock, so that of two requests that leave at once, the second sees that it is the
        // last.
        self.cell = Arc::default();
        let listed = pending.requests.get(&self.digest);
        // After an answer, later requests find it in the cache.
        if listed.is_some_and(|cell| cell.initialized() || Arc::strong_count(cell) == 1) {
            pending.requests.remove(&self.digest);
        }
    }
}

/// Builds the introspection request with the gateway's client credentials (RFC 6749, section 2.3.1).
fn build_form(
    token: &str,
    client: &IntrospectionClient,
    is_secret_in_form: bool,
) -> Result<Form, FetchError> {
    let mut body = format!("token={}&token_type_hint=access_token", form_encode(token));
    let mut authorization = None;
    let mut add = |name: &str, value: &str| write!(body, "&{name}={}", form_encode(value)).ok();
    match (&client.id, &client.secret) {
        (Some(id), Some(secret)) if !is_secret_in_form => {
            let pair = format!("{}:{}", form_encode(id), form_encode(secret.expose()));
            let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
            let mut value = value.map_err(|_| FetchError::Invalid("the client's secret cannot be sent"))?;
            value.set_sensitive(true);
            authorization = Some(value);
        }
        (Some(id), secret) => {
            add("client_id", id);
            if let Some(secret) = secret {
                add("client_secret", secret.expose());
            }
        }
        (None, _) => {}
    }
    Ok(Form { body, authorization })
}

/// Encodes `application/x-www-form-urlencoded`; everything but unreserved characters is escaped.
fn form_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}
