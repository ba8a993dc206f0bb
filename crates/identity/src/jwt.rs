//! Signed tokens: JWTs of the issuer, which are verified locally. A successful verification is cached until
//! the token expires, the issuer's keys change, or five minutes have passed.

pub(crate) mod claims;
pub(crate) mod key_set;
pub(crate) mod key_store;
pub(crate) mod signature;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytestring::ByteString;
use jsonwebtoken::{DecodingKey, Header, crypto, decode_header};
use vmcp_domain::{Caller, Identity, InvalidTokenReason, Secret, Unauthorized};
use vmcp_json::{Json, Members};
use vmcp_timing::Clock;

use crate::jwt::claims::ClaimsSource;
use crate::jwt::key_store::{IssuerSnapshot, KeyStore};
use crate::policy::OidcPolicy;
use crate::token_cache::{self, Now, TokenCache, Validity};

/// The longest time for which a verified token is accepted without another verification.
const CACHE_TTL_MAX: Duration = Duration::from_secs(300);

/// An authenticated caller, and the end of the credential in seconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedCaller {
    pub(crate) identity: Arc<Identity>,
    pub(crate) expires_unix_s: Option<u64>,
}

impl VerifiedCaller {
    /// Converts to the form that the edge uses.
    pub(crate) fn into_admission(self, now_s: u64, token: Option<Secret>) -> vmcp_domain::Authentication {
        vmcp_domain::Authentication {
            caller: Caller::Known(self.identity),
            token,
            valid_for: self.expires_unix_s.map(|until_s| Duration::from_secs(until_s.saturating_sub(now_s))),
        }
    }
}

/// Verifies the signed tokens of one issuer.
pub(crate) struct TokenVerifier {
    policy: Arc<OidcPolicy>,
    key_store: Arc<KeyStore>,
    clock: Arc<dyn Clock>,
    scopes: Arc<[String]>,
    cache: TokenCache<VerifiedCaller>,
}

/// True for a text of three parts, which only signed tokens have.
pub(crate) fn is_jwt_shaped(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl TokenVerifier {
    pub(crate) fn new(policy: Arc<OidcPolicy>, key_store: Arc<KeyStore>, clock: Arc<dyn Clock>) -> Self {
        crate::jwt::signature::install_provider();
        let scopes = policy.required_scopes.clone().into();
        Self { policy, key_store, clock, scopes, cache: TokenCache::new() }
    }

    /// Verifies a token and returns its caller.
    pub(crate) async fn verify(&self, token: &str) -> Result<VerifiedCaller, Unauthorized> {
        let digest = token_cache::digest(token);
        let mut snapshot = self.key_store.current().await?;
        if let Some(cached) = self.cache.get(&digest, self.now(&snapshot)) {
            return Ok(cached);
        }
        let parsed = parse_token(token, &self.policy).map_err(Unauthorized::InvalidToken)?;
        let key = match snapshot.keys.find(&parsed.header) {
            Err(InvalidTokenReason::UnknownKey) => {
                snapshot = self.key_store.refreshed_after(&snapshot).await;
                snapshot.keys.find(&parsed.header)
            }
            found => found,
        };
        let claims = key.and_then(|key| parsed.verify_signature(key)).map_err(Unauthorized::InvalidToken)?;
        let now = self.now(&snapshot);
        let valid = claims::validate(claims, parsed.claims_source, &self.policy, now.unix_s)
            .map_err(Unauthorized::InvalidToken)?;
        if !valid.has_required_scopes {
            return Err(Unauthorized::InsufficientScope { required: Arc::clone(&self.scopes) });
        }
        let verified =
            VerifiedCaller { identity: Arc::new(valid.identity), expires_unix_s: valid.expires_unix_s };
        let validity =
            Validity { forget_at: now.uptime + CACHE_TTL_MAX, expires_unix_s: valid.expires_unix_s };
        Ok(self.cache.get_or_insert(digest, verified, validity, now))
    }

    fn now(&self, snapshot: &IssuerSnapshot) -> Now {
        Now {
            uptime: self.clock.now().as_duration(),
            unix_s: self.clock.time_of_day().as_secs(),
            generation: snapshot.generation,
        }
    }
}

/// A token that is split but not yet verified.
struct ParsedToken<'a> {
    header: Header,
    claims_source: ClaimsSource,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// Splits a token and checks its header. No request goes to the issuer here, so an unacceptable header costs
/// the issuer nothing.
fn parse_token<'a>(token: &'a str, policy: &OidcPolicy) -> Result<ParsedToken<'a>, InvalidTokenReason> {
    let (message, signature) = token.rsplit_once('.').ok_or(InvalidTokenReason::Shape)?;
    let (head, payload) = message.split_once('.').ok_or(InvalidTokenReason::Shape)?;
    // An algorithm that the library does not know, such as `none`, fails here.
    let header = decode_header(token).map_err(|_| classify_header_error(head))?;
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(InvalidTokenReason::Header);
    }
    if !policy.algorithms.contains(&header.alg) {
        return Err(InvalidTokenReason::Algorithm);
    }
    let claims_source = claims_source(header.typ.as_deref())?;
    Ok(ParsedToken { header, claims_source, message, payload, signature })
}

/// Distinguishes an unreadable header from an unknown algorithm.
fn classify_header_error(head: &str) -> InvalidTokenReason {
    let algorithm = decode_object(head).and_then(|header| header.get("alg")?.decode_string());
    let is_known = |name: String| name.parse::<jsonwebtoken::Algorithm>().is_ok();
    if algorithm.is_some_and(|name| !is_known(name)) {
        InvalidTokenReason::Algorithm
    } else {
        InvalidTokenReason::Header
    }
}

/// The kind of token that the header declares. Kinds that are not access tokens (`dpop+jwt`, `logout+jwt`, …)
/// are rejected.
fn claims_source(kind: Option<&str>) -> Result<ClaimsSource, InvalidTokenReason> {
    let kind = kind.unwrap_or("jwt").to_ascii_lowercase();
    match kind.strip_prefix("application/").unwrap_or(&kind) {
        "at+jwt" => Ok(ClaimsSource::AccessToken),
        "jwt" => Ok(ClaimsSource::SignedToken),
        _ => Err(InvalidTokenReason::Kind),
    }
}

fn decode_object(part: &str) -> Option<Members> {
    let text = ByteString::try_from(URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
    Json::parse(text).ok()?.members().ok()
}

impl ParsedToken<'_> {
    /// Returns the claims when the signature is valid under `key`.
    fn verify_signature(&self, key: &DecodingKey) -> Result<Members, InvalidTokenReason> {
        let verified = crypto::verify(self.signature, self.message.as_bytes(), key, self.header.alg);
        if !verified.unwrap_or(false) {
            return Err(InvalidTokenReason::Signature);
        }
        decode_object(self.payload).ok_or(InvalidTokenReason::Claims)
    }
}
