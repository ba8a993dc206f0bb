//! Verifies token signatures with `ring` through the provider interface of `jsonwebtoken`, so that one
//! library does the cryptography of TLS and tokens. The gateway signs nothing.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory, verifier_factory, key_utils: KeyUtils::new_unimplemented() };

/// Makes `jsonwebtoken` verify signatures with `ring`. Further calls have no effect.
pub(crate) fn install_provider() {
    // An installed provider came from this function, because the program has no other user of the library.
    PROVIDER.install_default().ok();
}

fn signer_factory(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let method = verification_method(*algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?;
    Ok(Box::new(RingVerifier { algorithm: *algorithm, method, key: key.clone() }))
}

enum VerificationMethod {
    Rsa(&'static RsaParameters),
    Curve(&'static dyn VerificationAlgorithm),
}

fn verification_method(algorithm: Algorithm) -> Option<VerificationMethod> {
    let methods = [
        (Algorithm::RS256, VerificationMethod::Rsa(&RSA_PKCS1_2048_8192_SHA256)),
        (Algorithm::RS384, VerificationMethod::Rsa(&RSA_PKCS1_2048_8192_SHA384)),
        (Algorithm::RS512, VerificationMethod::Rsa(&RSA_PKCS1_2048_8192_SHA512)),
        (Algorithm::PS256, VerificationMethod::Rsa(&RSA_PSS_2048_8192_SHA256)),
        (Algorithm::PS384, VerificationMethod::Rsa(&RSA_PSS_2048_8192_SHA384)),
        (Algorithm::PS512, VerificationMethod::Rsa(&RSA_PSS_2048_8192_SHA512)),
        (Algorithm::ES256, VerificationMethod::Curve(&ECDSA_P256_SHA256_FIXED)),
        (Algorithm::ES384, VerificationMethod::Curve(&ECDSA_P384_SHA384_FIXED)),
        (Algorithm::EdDSA, VerificationMethod::Curve(&ED25519)),
    ];
    methods.into_iter().find(|(known, _)| *known == algorithm).map(|(_, method)| method)
}

struct RingVerifier {
    algorithm: Algorithm,
    method: VerificationMethod,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (&self.method, self.key.kind()) {
            (VerificationMethod::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                // `ring` requires numbers without leading zeros, but some issuers write one.
                RsaPublicKeyComponents { n: trim_leading_zeros(n), e: trim_leading_zeros(e) }
                    .verify(parameters, message, signature)
            }
            (VerificationMethod::Curve(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(*algorithm, point).verify(message, signature)
            }
            (VerificationMethod::Rsa(_), DecodingKeyKind::SecretOrDer(_))
            | (VerificationMethod::Curve(_), DecodingKeyKind::RsaModulusExponent { .. }) => {
                Err(ring::error::Unspecified)
            }
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn trim_leading_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or_default()
}
