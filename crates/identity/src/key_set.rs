//! The issuer's signing keys, read out of its key set (RFC 7517) and found for a token. What is no public signing key
//! is passed over; what a token says of keys of its own is never looked at.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use ring::digest;
use vmcp_domain::{InvalidTokenReason, Json};

use crate::fetch::FetchError;

/// The most keys a set may have.
const KEYS_MAX: usize = 100;

/// The keys of one moment.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<SigningKey>,
    /// What the set was read from, to tell whether it has changed.
    digest: Option<digest::Digest>,
}

#[derive(Debug)]
struct SigningKey {
    id: Option<String>,
    /// The only algorithm it is for, where the set says so.
    algorithm: Option<Algorithm>,
    curve: Option<EllipticCurve>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads the document at `jwks_uri`.
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

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// True when both were read from the same text.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let bytes = |set: &Self| set.digest.as_ref().map(|digest| digest.as_ref().to_vec());
        bytes(self) == bytes(other)
    }

    /// The key a token with this header was signed with. A token that names no key is checked only if there is no
    /// choice.
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
        // An algorithm that is not known here cannot be the one of a token that is taken.
        Some(named) => Some(named.to_string().parse::<Algorithm>().ok()?),
    };
    let curve = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(parameters) => Some(parameters.curve.clone()),
        AlgorithmParameters::OctetKeyPair(parameters) => Some(parameters.curve.clone()),
        AlgorithmParameters::RSA(_) => None,
        // Shared secrets, and whatever else there may be, sign nothing that is taken here.
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_) | _ => return None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let known = curve.as_ref().is_none_or(|curve| *curve != EllipticCurve::P521);
    (signs && verifies && known).then(|| SigningKey { id: jwk.common.key_id.clone(), algorithm, curve, key })
}
