//! Signed tokens: JWTs of the issuer, checked here without asking anybody. What has been checked once is remembered
//! until the token ends, its keys change, or five minutes are over.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytestring::ByteString;
use jsonwebtoken::{DecodingKey, Header, crypto, decode_header};
use vmcp_domain::{Caller, Identity, Json, Members, Secret, TokenFault, Unauthorized};

use crate::cache::{self, Moment, Standing, TokenCache};
use crate::claims::{self, Source};
use crate::clock::Clock;
use crate::key_store::{KeyStore, Snapshot};
use crate::policy::OidcPolicy;

/// A token that was good is taken without another look for at most so long.
const REMEMBERED_MAX: Duration = Duration::from_secs(300);

/// Somebody recognised, and until when, in seconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Recognised {
    pub(crate) identity: Arc<Identity>,
    pub(crate) until_s: Option<u64>,
}

impl Recognised {
    /// As the edge wants it.
    pub(crate) fn admit(self, now_s: u64, token: Option<Secret>) -> vmcp_domain::Admission {
        vmcp_domain::Admission {
            caller: Caller::Known(self.identity),
            token,
            valid_for: self.until_s.map(|until_s| Duration::from_secs(until_s.saturating_sub(now_s))),
        }
    }
}

/// Checks signed tokens of one issuer.
pub(crate) struct TokenChecker {
    policy: Arc<OidcPolicy>,
    keys: Arc<KeyStore>,
    clock: Arc<dyn Clock>,
    scopes: Arc<[String]>,
    cache: TokenCache<Recognised>,
}

/// True for a text of three parts, which only signed tokens have.
pub(crate) fn is_signed(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl TokenChecker {
    pub(crate) fn new(policy: Arc<OidcPolicy>, keys: Arc<KeyStore>, clock: Arc<dyn Clock>) -> Self {
        crate::signature::install();
        let scopes = policy.required_scopes.clone().into();
        Self { policy, keys, clock, scopes, cache: TokenCache::new() }
    }

    /// Who the token is about.
    pub(crate) async fn check(&self, token: &str) -> Result<Recognised, Unauthorized> {
        let digest = cache::digest(token);
        let mut snapshot = self.keys.current().await?;
        if let Some(known) = self.cache.get(&digest, self.moment(&snapshot)) {
            return Ok(known);
        }
        let read = read(token, &self.policy).map_err(Unauthorized::InvalidToken)?;
        let key = match snapshot.keys.find(&read.header) {
            Err(TokenFault::UnknownKey) => {
                snapshot = self.keys.after(&snapshot).await;
                snapshot.keys.find(&read.header)
            }
            found => found,
        };
        let claims = key.and_then(|key| read.verify(key)).map_err(Unauthorized::InvalidToken)?;
        let now = self.moment(&snapshot);
        let good = claims::check(claims, read.source, &self.policy, now.unix_s)
            .map_err(Unauthorized::InvalidToken)?;
        if !good.has_scopes {
            return Err(Unauthorized::InsufficientScope { required: Arc::clone(&self.scopes) });
        }
        let recognised = Recognised { identity: Arc::new(good.identity), until_s: good.until_s };
        let standing = Standing { forget_at: now.uptime + REMEMBERED_MAX, until_s: good.until_s };
        Ok(self.cache.put(digest, recognised, standing, now))
    }

    fn moment(&self, snapshot: &Snapshot) -> Moment {
        Moment { uptime: self.clock.uptime(), unix_s: self.clock.unix_s(), generation: snapshot.generation }
    }
}

/// A token taken apart, not yet believed.
struct Read<'a> {
    header: Header,
    source: Source,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// Takes a token apart and looks at what its header says. Nothing here asks the issuer, so a header that can never
/// be taken costs it nothing.
fn read<'a>(token: &'a str, policy: &OidcPolicy) -> Result<Read<'a>, TokenFault> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Shape)?;
    let (head, payload) = message.split_once('.').ok_or(TokenFault::Shape)?;
    // An algorithm that the library does not know, `none` above all, fails here.
    let header = decode_header(token).map_err(|_| read_broken(head))?;
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(TokenFault::Header);
    }
    if !policy.algorithms.contains(&header.alg) {
        return Err(TokenFault::Algorithm);
    }
    let source = source(header.typ.as_deref())?;
    Ok(Read { header, source, message, payload, signature })
}

/// Tells a header that cannot be read from one that names an algorithm nobody knows.
fn read_broken(head: &str) -> TokenFault {
    let algorithm = object(head).and_then(|header| header.get("alg")?.to_text());
    let is_known = |name: String| name.parse::<jsonwebtoken::Algorithm>().is_ok();
    if algorithm.is_some_and(|name| !is_known(name)) { TokenFault::Algorithm } else { TokenFault::Header }
}

/// What the header says the token is. Kinds that are no access tokens (`dpop+jwt`, `logout+jwt`, …) are refused.
fn source(kind: Option<&str>) -> Result<Source, TokenFault> {
    let kind = kind.unwrap_or("jwt").to_ascii_lowercase();
    match kind.strip_prefix("application/").unwrap_or(&kind) {
        "at+jwt" => Ok(Source::AccessToken),
        "jwt" => Ok(Source::SignedToken),
        _ => Err(TokenFault::Kind),
    }
}

fn object(part: &str) -> Option<Members> {
    let text = ByteString::try_from(URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
    Json::parse(text).ok()?.members().ok()
}

impl Read<'_> {
    /// The claims, if the signature is that of `key`.
    fn verify(&self, key: &DecodingKey) -> Result<Members, TokenFault> {
        let verified = crypto::verify(self.signature, self.message.as_bytes(), key, self.header.alg);
        if !verified.unwrap_or(false) {
            return Err(TokenFault::Signature);
        }
        object(self.payload).ok_or(TokenFault::Claims)
    }
}
