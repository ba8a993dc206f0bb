//! Digests that tell scopes and settings apart.

use sha2::{Digest as _, Sha256};
use vmcp_domain::{CallerScope, Identity, Json, Scope};

/// Claims that bound what a token may do: what an issuer grants in exchange depends on them.
const REACH: [&str; 7] = ["act", "aud", "authorization_details", "azp", "client_id", "scope", "scp"];

/// The scope of a caller under one strategy; `detail` is what else the strategy derives from the claims.
pub(crate) fn of_caller(strategy: &[u8; 32], identity: &Identity, detail: &[&str]) -> Scope {
    let mut hash = Sha256::new_with_prefix(strategy);
    put(&mut hash, &identity.issuer);
    put(&mut hash, &identity.subject);
    for part in detail {
        put(&mut hash, part);
    }
    for claim in REACH {
        let Some(value) = identity.claims.get(claim) else {
            hash.update([0]);
            continue;
        };
        hash.update([1]);
        match words(claim, value) {
            Some(words) => {
                hash.update(words.len().to_le_bytes());
                words.iter().for_each(|word| put(&mut hash, word));
            }
            None => put(&mut hash, value.as_str()),
        }
    }
    Scope::Caller(CallerScope::new(hash.finalize().into()))
}

/// A digest of a strategy's settings: equal settings may share what was exchanged.
pub(crate) fn fingerprint(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| put(&mut hash, part));
    hash.finalize().into()
}

/// A digest of settings and of what one request asks for under them.
pub(crate) fn fingerprint_under(settings: &[u8; 32], parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(settings);
    parts.iter().for_each(|part| put(&mut hash, part));
    hash.finalize().into()
}

/// With its length, so that no two lists of parts read the same.
fn put(hash: &mut Sha256, part: &str) {
    hash.update(part.len().to_le_bytes());
    hash.update(part);
}

/// The members of claims that are sets: order and repetition mean nothing there.
fn words(claim: &str, value: &Json) -> Option<Vec<String>> {
    let mut words = match (claim, value.to_text()) {
        ("aud", Some(one)) => vec![one],
        ("scope" | "scp", Some(text)) => text.split(' ').map(str::to_owned).collect(),
        ("aud" | "scope" | "scp", None) => value.decode::<Vec<String>>().ok()?,
        _other_claim => return None,
    };
    words.retain(|word| !word.is_empty());
    words.sort_unstable();
    words.dedup();
    Some(words)
}

#[cfg(test)]
mod tests;
