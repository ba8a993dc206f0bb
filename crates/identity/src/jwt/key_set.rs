//! The issuer's signing keys, parsed from its key set (RFC 7517), and the search for the key of a token.
//! Entries that are not public signing keys are skipped. Keys inside a token are never used.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use ring::digest;
use vmcp_domain::InvalidTokenReason;
use vmcp_json::Json;

use crate::fetcher::FetchError;

/// The most keys of a set.
const KEYS_MAX: usize = 100;

/// A snapshot of the issuer's keys.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<SigningKey>,
    /// The digest of the text that the set was parsed from; detects changes.
    digest: Option<digest::Digest>,
}

#[derive(Debug)]
struct SigningKey {
    id: Option<String>,
    /// The only algorithm that the key is for, when the set says so.
    algorithm: Option<Algorithm>,
    curve: Option<EllipticCurve>,
    key: DecodingKey,
}

impl KeySet {
    /// Parses the document at `jwks_uri`.
    pub(crate) fn parse(document: &Json) -> Result<Self, FetchError> {
        let bad = |_| FetchError::Invalid("it has no list of keys");
        let members = document.members().map_err(bad)?;
        let keys = members.get("keys").ok_or(FetchError::Invalid("it has no list of keys"))?;
        let entries = keys.elements().map_err(bad)?;
        if entries.len() > KEYS_MAX {
            return Err(FetchError::Invalid("it has too many keys"));
        }
        let digest = digest::digest(&digest::SHA256, keys.as_str().as_bytes());
        Ok(Self { keys: entries.iter().filter_map(parse_key).collect(), digest: Some(digest) })
    }

    /// The number of usable keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// True when both were parsed from the same text.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let bytes = |set: &Self| set.digest.as_ref().map(|digest| digest.as_ref().to_vec());
        bytes(self) == bytes(other)
    }

    /// Finds the key that a token with this header was signed with. A token without a `kid` is accepted only
    /// when exactly one key fits.
    pub(crate) fn find(&self, header: &Header) -> Result<&DecodingKey, InvalidTokenReason> {
        let named = |key: &&SigningKey| header.kid.is_none() || key.id == header.kid;
        let mut found = self.keys.iter().filter(named).filter(|key| key.is_for(header.alg));
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(&key.key),
            (Some(_), Some(_)) => Err(InvalidTokenReason::UnknownKey),
            (None, _) if self.keys.iter().any(|key| header.kid.is_some() && key.id == header.kid) => {
                Err(InvalidTokenReason::Algorithm)
            }
            (None, _) => Err(InvalidTokenReason::UnknownKey),
        }
    }
}

impl SigningKey {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        let curve = match &self.curve {
            None => None,
            Some(EllipticCurve::P256) => Some(Algorithm::ES256),
            Some(EllipticCurve::P384) => Some(Algorithm::ES384),
            Some(_) => Some(Algorithm::EdDSA),
        };
        self.key.family() == algorithm.family()
            && self.algorithm.is_none_or(|own| own == algorithm)
            && curve.is_none_or(|own| own == algorithm)
    }
}

fn parse_key(entry: &Json) -> Option<SigningKey> {
    let jwk: Jwk = entry.decode().ok()?;
    let signs = match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
    };
    let operations = jwk.common.key_operations.as_ref();
    let verifies = operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let algorithm = match jwk.common.key_algorithm {
        None => None,
        // An unknown algorithm is never accepted for tokens, so its key is not needed.
        Some(named) => Some(named.to_string().parse::<Algorithm>().ok()?),
    };
    let curve = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(parameters) => Some(parameters.curve.clone()),
        AlgorithmParameters::OctetKeyPair(parameters) => Some(parameters.curve.clone()),
        AlgorithmParameters::RSA(_) => None,
        // Shared secrets and unknown key types never sign an accepted token.
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_) | _ => return None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let known = curve.as_ref().is_none_or(|curve| *curve != EllipticCurve::P521);
    (signs && verifies && known).then(|| SigningKey { id: jwk.common.key_id.clone(), algorithm, curve, key })
}
