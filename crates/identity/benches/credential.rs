//! Measures authentication with a cached token, a new token and an API key. The identity provider is a thread
//! that serves two documents; its time is not measured.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use vmcp_domain::Authenticator;
use vmcp_identity::policy::{OidcPolicy, OidcSettings};
use vmcp_identity::{ApiKey, BearerAuthenticator, BearerPolicy, new_api_key};
use vmcp_json::Members;
use vmcp_timing::ManualClock;

const NOW: u64 = 1_800_000_000;
const ROUNDS: u32 = 200_000;
const NEW_TOKENS: u32 = 2_000;
const AUDIENCE: &str = "https://mcp.example/mcp";

type BoxError = Box<dyn std::error::Error>;
type Sign = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, BoxError>>;

fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let issuer = format!("http://{}", listener.local_addr()?);
    let (rsa, curve) = (rsa_key()?, curve_key()?);
    let documents = [
        json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}).to_string(),
        json!({"keys": [rsa.0, curve.0]}).to_string(),
    ];
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| serve_documents(stream, &documents))
    });
    let made = new_api_key()?;
    let key = |name: String, hash: String| ApiKey {
        name,
        hash,
        scopes: Vec::new(),
        claims: Members::new(),
        expires_unix_s: None,
    };
    let mut keys = vec![key("ci".to_owned(), made.hash)];
    for number in 0..99 {
        keys.push(key(format!("k{number}"), new_api_key()?.hash));
    }
    let mut settings = OidcSettings::new(&issuer, AUDIENCE);
    settings.allow_private_addresses = true;
    let policy = OidcPolicy::new(settings).map_err(|flaws| format!("{flaws:?}"))?;
    let clock = Arc::new(ManualClock::at(std::time::Duration::from_secs(NOW)));
    let authenticator = BearerAuthenticator::start(BearerPolicy::new("bench", Some(policy), keys)?, clock)?;

    for (name, sign) in [("RS256", &rsa.1), ("ES256", &curve.1)] {
        let tokens: Result<Vec<_>, _> =
            (0..NEW_TOKENS).map(|number| token(name, &issuer, number, sign)).collect();
        let tokens = tokens?;
        let bytes = tokens.first().map_or(0, Vec::len);
        // The first token makes the authenticator fetch the keys.
        let warm = token(name, &issuer, NEW_TOKENS, sign)?;
        runtime.block_on(admit(&authenticator, &warm))?;
        let new = measure(NEW_TOKENS, &mut || {
            tokens.iter().try_for_each(|it| runtime.block_on(admit(&authenticator, it)))
        })?;
        let seen = measure(ROUNDS, &mut || {
            (0..ROUNDS).try_for_each(|_| runtime.block_on(admit(&authenticator, &warm)))
        })?;
        println!("{name}, {bytes} bytes: new {new:.0} ns, seen before {seen:.0} ns");
    }
    let header = format!("Bearer {}", made.key.expose()).into_bytes();
    let api_key = measure(ROUNDS, &mut || {
        (0..ROUNDS).try_for_each(|_| runtime.block_on(admit(&authenticator, &header)))
    })?;
    println!("API key, one of 100: {api_key:.0} ns");
    Ok(())
}

fn measure(rounds: u32, run: &mut dyn FnMut() -> Result<(), BoxError>) -> Result<f64, BoxError> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_nanos() as f64 / f64::from(rounds))
}

async fn admit(authenticator: &BearerAuthenticator, header: &[u8]) -> Result<(), BoxError> {
    black_box(authenticator.authenticate(Some(black_box(header)), None).await)?;
    Ok(())
}

fn rsa_key() -> Result<(Value, Sign), BoxError> {
    let pair = RsaKeyPair::from_pkcs8(include_bytes!("../tests/it/keys/issuer.pk8"))
        .map_err(|error| error.to_string())?;
    let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
    let encode = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({"kty": "RSA", "kid": "RS256", "n": encode(n), "e": encode(e)});
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(|_| "RSA")?;
        Ok(signature)
    };
    Ok((jwk, Box::new(sign)))
}

fn curve_key() -> Result<(Value, Sign), BoxError> {
    let random = SystemRandom::new();
    let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve, &random).map_err(|_| "key")?;
    let pair = EcdsaKeyPair::from_pkcs8(curve, pkcs8.as_ref(), &random).map_err(|error| error.to_string())?;
    let point = pair.public_key().as_ref();
    let part = |from: usize, to: usize| URL_SAFE_NO_PAD.encode(point.get(from..to).unwrap_or_default());
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "ES256", "x": part(1, 33), "y": part(33, 65)});
    let sign = move |message: &[u8]| {
        Ok(pair.sign(&SystemRandom::new(), message).map_err(|_| "ECDSA")?.as_ref().to_vec())
    };
    Ok((jwk, Box::new(sign)))
}

/// A header value with a token of typical size.
fn token(algorithm: &str, issuer: &str, number: u32, sign: &Sign) -> Result<Vec<u8>, BoxError> {
    let header = json!({"alg": algorithm, "kid": algorithm, "typ": "at+jwt"});
    let claims = json!({
        "iss": issuer, "sub": format!("user-{number}"), "aud": AUDIENCE, "exp": NOW + 3600, "iat": NOW,
        "jti": "0123456789abcdef0123456789abcdef", "client_id": "desktop", "scope": "openid mcp tools",
        "email": "user@example.com", "groups": ["engineering", "operations", "on-call"],
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&header), encode(&claims));
    let signature = sign(message.as_bytes())?;
    Ok(format!("Bearer {message}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes())
}

fn serve_documents(mut stream: TcpStream, documents: &[String; 2]) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        let [discovery, keys] = documents;
        let asked = buffer.get(..read).unwrap_or_default();
        let body = if asked.starts_with(b"GET /keys ") { keys } else { discovery };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok();
    }
}
