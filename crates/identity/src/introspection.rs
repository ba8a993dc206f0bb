//! Opaque tokens: the issuer is asked (RFC 7662), once for any number of requests that come with the same token
//! meanwhile. Its answer, good or bad, is remembered for a short while; that it gave none is not.

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
use vmcp_domain::{Json, TokenFault, Unauthorized};

use crate::cache::{self, Digest, Moment, Standing, TokenCache};
use crate::claims::{self, Source};
use crate::clock::Clock;
use crate::fetch::{FetchFault, Fetcher, Form};
use crate::jwt::Recognised;
use crate::key_store::KeyStore;
use crate::policy::{Client, OidcPolicy};
use crate::question_queue::{QuestionQueue, WAITING_MAX};

/// A token the issuer called good is taken for so long before it is asked again: that is how late its revocation is
/// noticed.
pub(crate) const REMEMBERED_MAX: Duration = Duration::from_secs(60);
/// A token the issuer called bad is refused for so long before it is asked again.
const REFUSED_MAX: Duration = Duration::from_secs(10);
/// A token that was good is remembered as such for so long, so that it is asked about before unknown ones.
const KNOWN_GOOD_MAX: Duration = Duration::from_mins(10);
/// After an issuer gave no answer it is left alone for so long.
const PAUSE: Duration = Duration::from_secs(1);

type Outcome = Result<Recognised, Unauthorized>;

/// Asks one issuer about tokens.
pub(crate) struct Introspector {
    policy: Arc<OidcPolicy>,
    /// Where to ask; by discovery if it is not configured.
    address: Option<Uri>,
    client: Client,
    keys: Arc<KeyStore>,
    fetcher: Arc<Fetcher>,
    clock: Arc<dyn Clock>,
    scopes: Arc<[String]>,
    cache: TokenCache<Outcome>,
    /// The tokens that were good lately.
    known: TokenCache<()>,
    queue: QuestionQueue,
    open: Mutex<Open>,
}

/// The questions that wait for an answer.
#[derive(Default)]
struct Open {
    questions: HashMap<Digest, Arc<OnceCell<Outcome>>>,
    /// Nothing is asked before this uptime.
    paused_until: Duration,
}

/// What an introspector is made of.
pub(crate) struct Parts {
    pub(crate) policy: Arc<OidcPolicy>,
    pub(crate) address: Option<Uri>,
    pub(crate) client: Client,
    pub(crate) keys: Arc<KeyStore>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Introspector {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { policy, address, client, keys, fetcher, clock } = parts;
        let scopes = policy.required_scopes.clone().into();
        let (cache, known, queue) = (TokenCache::new(), TokenCache::new(), QuestionQueue::new());
        let open = Mutex::default();
        Self { policy, address, client, keys, fetcher, clock, scopes, cache, known, queue, open }
    }

    /// Who the token is about, which came from `address`.
    pub(crate) async fn check(&self, token: &str, address: Option<IpAddr>) -> Outcome {
        let digest = cache::digest(token);
        if let Some(known) = self.cache.get(&digest, self.moment()) {
            return known;
        }
        let is_known = self.known.get(&digest, self.moment()).is_some();
        let question = self.ask(digest, is_known)?;
        // If the request that asks leaves, the next in the queue asks anew.
        let outcome =
            question.cell.get_or_init(|| self.answer_in_turn(token, digest, (address, is_known))).await;
        outcome.clone()
    }

    /// Joins the question about a token, or opens it.
    fn ask(&self, digest: Digest, is_known: bool) -> Result<Question<'_>, Unauthorized> {
        let mut open = self.open.lock();
        let cell = match open.questions.get(&digest) {
            Some(cell) => Arc::clone(cell),
            None if (open.questions.len() >= WAITING_MAX && !is_known)
                || self.clock.uptime() < open.paused_until =>
            {
                return Err(Unauthorized::Unavailable);
            }
            None => Arc::clone(open.questions.entry(digest).or_default()),
        };
        Ok(Question { introspector: self, digest, cell })
    }

    async fn answer_in_turn(
        &self,
        token: &str,
        digest: Digest,
        (address, is_known): (Option<IpAddr>, bool),
    ) -> Outcome {
        let Some(_turn) = self.queue.turn(address, is_known).await else {
            return Err(Unauthorized::Unavailable);
        };
        if self.clock.uptime() < self.open.lock().paused_until {
            return Err(Unauthorized::Unavailable);
        }
        self.answer(token, digest).await
    }

    async fn answer(&self, token: &str, digest: Digest) -> Outcome {
        let document = match self.exchange(token).await {
            Ok(document) => document,
            Err(error) => {
                tracing::warn!(issuer = %self.policy.issuer, %error, "the issuer does not tell about tokens");
                self.open.lock().paused_until = self.clock.uptime() + PAUSE;
                return Err(Unauthorized::Unavailable);
            }
        };
        let now = self.moment();
        let outcome = self.judge(&document, now.unix_s);
        let (kept, until_s) = match &outcome {
            Ok(recognised) => (REMEMBERED_MAX, recognised.until_s),
            Err(_) => (REFUSED_MAX, None),
        };
        if outcome.is_ok() {
            let standing = Standing { forget_at: now.uptime + KNOWN_GOOD_MAX, until_s };
            self.known.replace(digest, (), standing, now);
        }
        let standing = Standing { forget_at: now.uptime + kept, until_s };
        self.cache.put(digest, outcome, standing, now)
    }

    async fn exchange(&self, token: &str) -> Result<Json, FetchFault> {
        let (address, in_form) = match &self.address {
            Some(address) => (address.clone(), false),
            None => {
                let snapshot = self.keys.current().await;
                let snapshot = snapshot.map_err(|_| FetchFault::Content("discovery has failed"))?;
                let found = snapshot.metadata.introspection.clone();
                let found = found.ok_or(FetchFault::Content("it names no `introspection_endpoint`"))?;
                (found, snapshot.metadata.secret_in_form)
            }
        };
        let form = form(token, &self.client, in_form)?;
        self.fetcher.post(&address, form).await
    }

    fn judge(&self, document: &Json, now_s: u64) -> Outcome {
        let claims = document.members().map_err(|_| Unauthorized::Unavailable)?;
        let active = claims.get("active").and_then(|active| active.decode::<bool>().ok());
        if active != Some(true) {
            return Err(Unauthorized::InvalidToken(TokenFault::Inactive));
        }
        let good = claims::check(claims, Source::Introspection, &self.policy, now_s)
            .map_err(Unauthorized::InvalidToken)?;
        if !good.has_scopes {
            return Err(Unauthorized::InsufficientScope { required: Arc::clone(&self.scopes) });
        }
        Ok(Recognised { identity: Arc::new(good.identity), until_s: good.until_s })
    }

    fn moment(&self) -> Moment {
        Moment { uptime: self.clock.uptime(), unix_s: self.clock.unix_s(), generation: 0 }
    }
}

/// A question somebody waits for. The last one to leave takes it off the list.
struct Question<'a> {
    introspector: &'a Introspector,
    digest: Digest,
    cell: Arc<OnceCell<Outcome>>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut open = self.introspector.open.lock();
        // Given back under the lock, so that of two who leave at once the second sees that it is the last.
        self.cell = Arc::default();
        let listed = open.questions.get(&self.digest);
        // With an answer, whoever comes next finds it in the cache.
        if listed.is_some_and(|cell| cell.initialized() || Arc::strong_count(cell) == 1) {
            open.questions.remove(&self.digest);
        }
    }
}

/// The question, with the client's own credentials as RFC 6749 section 2.3.1 has them.
fn form(token: &str, client: &Client, secret_in_form: bool) -> Result<Form, FetchFault> {
    let mut body = format!("token={}&token_type_hint=access_token", encoded(token));
    let mut authorization = None;
    let mut add = |name: &str, value: &str| write!(body, "&{name}={}", encoded(value)).ok();
    match (&client.id, &client.secret) {
        (Some(id), Some(secret)) if !secret_in_form => {
            let pair = format!("{}:{}", encoded(id), encoded(secret.expose()));
            let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
            let mut value = value.map_err(|_| FetchFault::Content("the client's secret cannot be sent"))?;
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

/// `application/x-www-form-urlencoded`, everything but the plainest letters escaped.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}
