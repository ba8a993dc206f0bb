//! API keys for machines: long random texts of which the gateway stores only the SHA-256. A slow hash, as
//! passwords need it, would add nothing: 256 random bits cannot be guessed at any speed.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use vmcp_domain::{Identity, InvalidTokenReason, Unauthorized};
use vmcp_json::{Json, Members};

use crate::jwt::VerifiedCaller;
use crate::policy::{Secret, SettingError};
use crate::token_cache::{self, Digest};

/// The issuer of callers that present an API key.
pub const API_KEY_ISSUER: &str = "vmcp:api-key";
/// The prefix of every key, by which secret scanners find a leaked one.
pub(crate) const KEY_PREFIX: &str = "vmcp_";
/// The prefix of every hash.
const HASH_PREFIX: &str = "sha256:";
/// The most keys. Each request with a key is compared with all of them.
const KEYS_MAX: usize = 1000;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// One key as an operator configures it.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The name of the client: the subject of the caller.
    pub name: String,
    /// The hash: `sha256:` and 64 hexadecimal digits. The key itself is stored nowhere.
    pub hash: String,
    /// Scopes for authorisation, which become the claim `scope`. The scopes that an issuer's tokens need do
    /// not apply to keys.
    pub scopes: Vec<String>,
    /// Further claims, for authorisation.
    pub claims: Members,
    /// When the key expires, in seconds since 1970; `None` for never.
    pub expires_unix_s: Option<u64>,
}

/// A newly generated key.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// The key, to be handed to the client and then forgotten.
    pub key: Secret,
    /// The key's hash, for the settings.
    pub hash: String,
}

/// Generates a key of 32 random bytes.
///
/// # Errors
/// When the operating system provides no random bytes.
pub fn new_api_key() -> std::io::Result<NewApiKey> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hash_api_key(&key);
    Ok(NewApiKey { key: Secret::new(key), hash })
}

/// The hash of a key, in the form for the settings.
#[must_use]
pub fn hash_api_key(key: &str) -> String {
    let mut text = HASH_PREFIX.to_owned();
    for byte in token_cache::digest(key) {
        // Writing to a `String` cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

/// A hash as words, which are fast to compare.
type HashWords = [u64; 4];

fn to_words(digest: &Digest) -> HashWords {
    let mut words = HashWords::default();
    for (word, bytes) in words.iter_mut().zip(digest.as_chunks().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    words
}

/// All configured keys.
#[derive(Clone, Debug)]
pub(crate) struct ApiKeys(Vec<ApiKeyEntry>);

#[derive(Clone, Debug)]
struct ApiKeyEntry {
    digest: HashWords,
    verified: VerifiedCaller,
}

impl ApiKeys {
    /// Validates the configured keys and reports every error.
    pub(crate) fn new(keys: Vec<ApiKey>) -> Result<Self, Vec<SettingError>> {
        let mut errors = Vec::new();
        if keys.len() > KEYS_MAX {
            errors.push(SettingError::new("api_keys", format!("must not have more than {KEYS_MAX} entries")));
        }
        let mut entries: Vec<ApiKeyEntry> = Vec::new();
        for key in keys.into_iter().take(KEYS_MAX) {
            let name = key.name.clone();
            let entry_error =
                |message: &str| SettingError::new("api_keys", format!("has `{name}`, {message}"));
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
                errors.push(entry_error("which is not a valid name: a name has 1 to 256 bytes on one line"));
                continue;
            }
            if entries.iter().any(|entry| entry.verified.identity.subject == name) {
                errors.push(entry_error("which occurs twice"));
            }
            let Some(digest) = parse_hash(&key.hash).as_ref().map(to_words) else {
                errors.push(entry_error("its hash is not `sha256:` and 64 hexadecimal digits"));
                continue;
            };
            if entries.iter().any(|entry| entry.digest == digest) {
                errors.push(entry_error("another entry has the same key"));
            }
            let until_s = key.expires_unix_s;
            let verified = VerifiedCaller { identity: Arc::new(identity(key)), expires_unix_s: until_s };
            entries.push(ApiKeyEntry { digest, verified });
        }
        if errors.is_empty() { Ok(Self(entries)) } else { Err(errors) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller that the key belongs to.
    pub(crate) fn verify(&self, key: &str, now_s: u64) -> Result<VerifiedCaller, Unauthorized> {
        let presented = to_words(&token_cache::digest(key));
        let mut matching = None;
        // Every entry is compared, so that the time does not reveal how close a guess was.
        for entry in &self.0 {
            if bool::from(entry.digest.ct_eq(&presented)) {
                matching = Some(&entry.verified);
            }
        }
        let matching = matching.ok_or(Unauthorized::InvalidToken(InvalidTokenReason::UnknownApiKey))?;
        if matching.expires_unix_s.is_some_and(|until_s| now_s >= until_s) {
            return Err(Unauthorized::InvalidToken(InvalidTokenReason::Expired));
        }
        Ok(matching.clone())
    }
}

fn identity(key: ApiKey) -> Identity {
    let mut claims = key.claims;
    claims.insert("iss", Json::string(API_KEY_ISSUER));
    claims.insert("sub", Json::string(&key.name));
    if !key.scopes.is_empty() {
        claims.insert("scope", Json::string(&key.scopes.join(" ")));
    }
    Identity { issuer: API_KEY_ISSUER.to_owned(), subject: key.name, claims }
}

fn parse_hash(text: &str) -> Option<Digest> {
    let digits = text.strip_prefix(HASH_PREFIX)?;
    let mut digest = Digest::default();
    if digits.len() != 2 * digest.len() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests;
