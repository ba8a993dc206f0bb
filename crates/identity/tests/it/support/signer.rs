//! Signs tokens with keys of every accepted type.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};

/// A key with its algorithm and identifier.
pub(crate) struct Signer {
    pub(crate) id: &'static str,
    algorithm: &'static str,
    key: Key,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Curve(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// The key that the provider publishes from the start.
    pub(crate) fn issuer() -> &'static Self {
        static ISSUER: OnceLock<Signer> = OnceLock::new();
        ISSUER.get_or_init(|| Self::rsa("issuer", "RS256", include_bytes!("../keys/issuer.pk8")))
    }

    /// A key that is not the issuer's.
    pub(crate) fn stranger() -> &'static Self {
        static STRANGER: OnceLock<Signer> = OnceLock::new();
        STRANGER.get_or_init(|| Self::rsa("stranger", "RS256", include_bytes!("../keys/stranger.pk8")))
    }

    /// The issuer's RSA key with another identifier and algorithm.
    pub(crate) fn issuer_as(id: &'static str, algorithm: &'static str) -> Self {
        Self::rsa(id, algorithm, include_bytes!("../keys/issuer.pk8"))
    }

    fn rsa(id: &'static str, algorithm: &'static str, pkcs8: &[u8]) -> Self {
        Self { id, algorithm, key: Key::Rsa(Box::new(RsaKeyPair::from_pkcs8(pkcs8).unwrap())) }
    }

    /// Generates a new key on a curve.
    pub(crate) fn new(id: &'static str, algorithm: &'static str) -> Self {
        let random = SystemRandom::new();
        let curve = |curve: &'static EcdsaSigningAlgorithm| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
            Key::Curve(EcdsaKeyPair::from_pkcs8(curve, pkcs8.as_ref(), &random).unwrap())
        };
        let key = match algorithm {
            "ES256" => curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => curve(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Key::Edwards(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
            }
            other => panic!("{other}"),
        };
        Self { id, algorithm, key }
    }

    /// The public key in the form of a key set.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
            }
            Key::Curve(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                let curve = if self.algorithm == "ES256" { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Key::Edwards(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())}),
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm);
        jwk
    }

    /// The bytes of the public key, for attacks that use it as a shared secret.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match &self.key {
            Key::Rsa(pair) => pair.public().as_ref().to_vec(),
            Key::Curve(pair) => pair.public_key().as_ref().to_vec(),
            Key::Edwards(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// A token with this key's identifier and algorithm in its header; `null` in `header` removes a member.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        let mut full = json!({"alg": self.algorithm, "kid": self.id});
        for (name, value) in header.as_object().unwrap() {
            full[name] = value.clone();
        }
        full.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.sign(&full.to_string(), &claims.to_string())
    }

    /// A token of exactly these texts.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(self.padding(), &random, message, &mut signature).unwrap();
                signature
            }
            Key::Curve(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Key::Edwards(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn padding(&self) -> &'static dyn RsaEncoding {
        match self.algorithm {
            "RS256" => &RSA_PKCS1_SHA256,
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            "PS256" => &RSA_PSS_SHA256,
            "PS384" => &RSA_PSS_SHA384,
            "PS512" => &RSA_PSS_SHA512,
            other => panic!("{other}"),
        }
    }
}
