//! Digests that identify isolation scopes and settings.

use sha2::{Digest as _, Sha256};
use vmcp_domain::{CallerScope, Identity, IsolationScope};
use vmcp_json::Json;

/// Claims that limit what a token may do. What an issuer grants in exchange depends on them.
const SCOPE_CLAIMS: [&str; 7] = ["act", "aud", "authorization_details", "azp", "client_id", "scope", "scp"];

/// The scope of a caller under one strategy. `detail` is what else the strategy derives from the claims.
pub(crate) fn caller_scope(strategy: &[u8; 32], identity: &Identity, detail: &[&str]) -> IsolationScope {
    let mut hash = Sha256::new_with_prefix(strategy);
    hash_part(&mut hash, &identity.issuer);
    hash_part(&mut hash, &identity.subject);
    for part in detail {
        hash_part(&mut hash, part);
    }
    for claim in SCOPE_CLAIMS {
        let Some(value) = identity.claims.get(claim) else {
            hash.update([0]);
            continue;
        };
        hash.update([1]);
        match sorted_values(claim, value) {
            Some(values) => {
                hash.update(values.len().to_le_bytes());
                values.iter().for_each(|word| hash_part(&mut hash, word));
            }
            None => hash_part(&mut hash, value.as_str()),
        }
    }
    IsolationScope::Caller(CallerScope::new(hash.finalize().into()))
}

/// A digest of a strategy's settings. Equal settings may share exchanged credentials.
pub(crate) fn fingerprint(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash_part(&mut hash, part));
    hash.finalize().into()
}

/// A digest of settings and of what one request asks for under them.
pub(crate) fn fingerprint_with(settings: &[u8; 32], parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(settings);
    parts.iter().for_each(|part| hash_part(&mut hash, part));
    hash.finalize().into()
}

/// Hashes the length first, so that no two lists of parts have the same hash input.
fn hash_part(hash: &mut Sha256, part: &str) {
    hash.update(part.len().to_le_bytes());
    hash.update(part);
}

/// The sorted members of claims that are sets, in which order and repetition have no meaning.
fn sorted_values(claim: &str, value: &Json) -> Option<Vec<String>> {
    let mut values = match (claim, value.decode_string()) {
        ("aud", Some(one)) => vec![one],
        ("scope" | "scp", Some(text)) => text.split(' ').map(str::to_owned).collect(),
        ("aud" | "scope" | "scp", None) => value.decode::<Vec<String>>().ok()?,
        _other_claim => return None,
    };
    values.retain(|word| !word.is_empty());
    values.sort_unstable();
    values.dedup();
    Some(values)
}

#[cfg(test)]
mod tests;
