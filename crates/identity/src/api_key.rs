//! API keys for machines: long random texts, of which the gateway keeps only the SHA-256. A slow hash, as passwords
//! need it, would gain nothing: 256 random bits cannot be guessed, however fast guessing is.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use vmcp_domain::{Identity, InvalidTokenReason, Json, Members, Unauthorized};

use crate::cache::{self, Digest};
use crate::jwt::VerifiedCaller;
use crate::policy::{Secret, SettingError};

/// The issuer of the callers that API keys name.
pub const API_KEY_ISSUER: &str = "vmcp:api-key";
/// What every key begins with, so that one that has leaked is found by those who look for such things.
pub(crate) const KEY_PREFIX: &str = "vmcp_";
/// What every hash begins with.
const HASH_PREFIX: &str = "sha256:";
/// The most keys there may be: each is compared with.
const KEYS_MAX: usize = 1000;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// One key as an operator writes it.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Who presents it: the subject of the caller.
    pub name: String,
    /// Its hash, `sha256:` and 64 hexadecimal digits. The key itself is nowhere.
    pub hash: String,
    /// Its scopes, for authorization: they become the claim `scope`. The scopes an issuer's tokens need do not
    /// concern keys.
    pub scopes: Vec<String>,
    /// Further claims, for authorization.
    pub claims: Members,
    /// When it ends, in seconds since 1970; without an end if left out.
    pub expires_unix_s: Option<u64>,
}

/// A key that was just made.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// The key, to be handed over and forgotten.
    pub key: Secret,
    /// Its hash, for the settings.
    pub hash: String,
}

/// Makes a key of 32 random bytes.
///
/// # Errors
/// When the system has no random bytes.
pub fn new_api_key() -> std::io::Result<NewApiKey> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hash_api_key(&key);
    Ok(NewApiKey { key: Secret::new(key), hash })
}

/// The hash under which a key stands in the settings.
#[must_use]
pub fn hash_api_key(key: &str) -> String {
    let mut text = HASH_PREFIX.to_owned();
    for byte in cache::digest(key) {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

/// A hash in pieces that are quickly compared.
type HashWords = [u64; 4];

fn to_words(digest: &Digest) -> HashWords {
    let mut words = HashWords::default();
    for (word, bytes) in words.iter_mut().zip(digest.as_chunks().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    words
}

/// Every key there is.
#[derive(Debug)]
pub(crate) struct ApiKeys(Vec<ApiKeyEntry>);

#[derive(Debug)]
struct ApiKeyEntry {
    digest: HashWords,
    verified: VerifiedCaller,
}

impl ApiKeys {
    /// Validates the keys of the settings.
    pub(crate) fn new(keys: Vec<ApiKey>) -> Result<Self, Vec<SettingError>> {
        let mut flaws = Vec::new();
        if keys.len() > KEYS_MAX {
            flaws.push(SettingError::new("api_keys", format!("must not have more than {KEYS_MAX} entries")));
        }
        let mut entries: Vec<ApiKeyEntry> = Vec::new();
        for key in keys.into_iter().take(KEYS_MAX) {
            let name = key.name.clone();
            let about = |message: &str| SettingError::new("api_keys", format!("has `{name}`, {message}"));
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
                flaws.push(about("which is no name: it must be 1 to 256 bytes of text on one line"));
                continue;
            }
            if entries.iter().any(|entry| entry.verified.identity.subject == name) {
                flaws.push(about("which stands twice"));
            }
            let Some(digest) = parse_hash(&key.hash).as_ref().map(to_words) else {
                flaws.push(about("whose hash is not `sha256:` and 64 hexadecimal digits"));
                continue;
            };
            if entries.iter().any(|entry| entry.digest == digest) {
                flaws.push(about("whose key is also another's"));
            }
            let until_s = key.expires_unix_s;
            let recognised = VerifiedCaller { identity: Arc::new(identity(key)), expires_unix_s: until_s };
            entries.push(ApiKeyEntry { digest, verified: recognised });
        }
        if flaws.is_empty() { Ok(Self(entries)) } else { Err(flaws) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key it is.
    pub(crate) fn verify(&self, key: &str, now_s: u64) -> Result<VerifiedCaller, Unauthorized> {
        let presented = to_words(&cache::digest(key));
        let mut found = None;
        // Every entry is looked at, so that the time taken says nothing of how close a guess was.
        for entry in &self.0 {
            if bool::from(entry.digest.ct_eq(&presented)) {
                found = Some(&entry.verified);
            }
        }
        let found = found.ok_or(Unauthorized::InvalidToken(InvalidTokenReason::UnknownApiKey))?;
        if found.expires_unix_s.is_some_and(|until_s| now_s >= until_s) {
            return Err(Unauthorized::InvalidToken(InvalidTokenReason::Expired));
        }
        Ok(found.clone())
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
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests;
