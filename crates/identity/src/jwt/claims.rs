//! Validates a token's claims against the issuer's settings. It is pure: the time is an argument. The
//! signature or the introspection has been verified before.

use serde_json::Number;
use vmcp_domain::{Identity, InvalidTokenReason};
use vmcp_json::{Json, Members};

use crate::policy::OidcPolicy;

/// Claims that only ID tokens have (OpenID Connect Core, sections 2 and 3.3.2.11).
const ID_TOKEN_CLAIMS: [&str; 3] = ["at_hash", "c_hash", "s_hash"];
/// Values of Keycloak's claim `typ` for tokens that are not for resource servers.
const NON_ACCESS_TYPES: [&str; 4] = ["ID", "Refresh", "Offline", "Logout"];
/// Values of the claim `token_use` for resource servers.
const ACCESS_TOKEN_USES: [&str; 2] = ["access", "access_token"];
/// The longest subject, in bytes.
const SUBJECT_BYTES_MAX: usize = 1024;

/// The source of the claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimsSource {
    /// A signed token whose header declares an access token (RFC 9068).
    AccessToken,
    /// A signed token whose header does not declare its kind.
    SignedToken,
    /// The issuer's introspection response. It comes from the issuer and concerns an active token, so `iss`
    /// and `exp` may be missing.
    Introspection,
}

/// A valid token.
#[derive(Clone, Debug)]
pub(crate) struct ValidClaims {
    pub(crate) identity: Identity,
    /// When the token expires, in seconds since 1970, leeway included.
    pub(crate) expires_unix_s: Option<u64>,
    pub(crate) has_required_scopes: bool,
}

/// Validates `claims` against the settings.
pub(crate) fn validate(
    claims: Members,
    source: ClaimsSource,
    policy: &OidcPolicy,
    now_s: u64,
) -> Result<ValidClaims, InvalidTokenReason> {
    if has_duplicates(&claims) {
        return Err(InvalidTokenReason::Claims);
    }
    check_kind(&claims, source)?;
    check_issuer(&claims, source, policy)?;
    if !has_any_of(&claims, "aud", &policy.audiences)? {
        return Err(InvalidTokenReason::Audience);
    }
    let expires_unix_s = check_times(&claims, source, policy.leeway_s, now_s)?;
    // Proof of possession is not checked here, and a stolen token must not be worth more than its owner
    // agreed to (RFC 8705 section 3, RFC 9449 section 7.2).
    if claims.get("cnf").is_some_and(|cnf| !cnf.is_null()) {
        return Err(InvalidTokenReason::SenderConstrained);
    }
    let subject = claims.get("sub").and_then(Json::decode_string).unwrap_or_default();
    // A subject appears in logs and in store keys, where a line feed would have another meaning.
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.contains(char::is_control) {
        return Err(InvalidTokenReason::Subject);
    }
    let has_required_scopes = policy.required_scopes.is_empty() || {
        let granted = granted_scopes(&claims);
        policy.required_scopes.iter().all(|required| granted.contains(required))
    };
    let identity = Identity { issuer: policy.issuer.clone(), subject, claims };
    Ok(ValidClaims { identity, expires_unix_s, has_required_scopes })
}

/// True when a claim occurs twice: two parties could read it differently.
fn has_duplicates(claims: &Members) -> bool {
    let mut names: Vec<_> = claims.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair.first() == pair.last())
}

/// Rejects a token that is not for resource servers, as far as issuers declare it: Keycloak in `typ`, Amazon
/// Cognito and Ory Hydra in `token_use`.
fn check_kind(claims: &Members, source: ClaimsSource) -> Result<(), InvalidTokenReason> {
    let named = claims.get("typ").and_then(Json::decode_string).unwrap_or_default();
    let is_id_token =
        source == ClaimsSource::SignedToken && ID_TOKEN_CLAIMS.iter().any(|name| claims.get(name).is_some());
    let used_otherwise = claims.get("token_use").is_some_and(|used| {
        !used.is_null() && !used.decode_string().is_some_and(|used| ACCESS_TOKEN_USES.contains(&&*used))
    });
    if is_id_token || used_otherwise || NON_ACCESS_TYPES.contains(&&*named) {
        return Err(InvalidTokenReason::Kind);
    }
    Ok(())
}

fn check_issuer(
    claims: &Members,
    source: ClaimsSource,
    policy: &OidcPolicy,
) -> Result<(), InvalidTokenReason> {
    match claims.get("iss") {
        None if source == ClaimsSource::Introspection => Ok(()),
        Some(issuer) if issuer.decode_string().as_deref() == Some(&*policy.issuer) => Ok(()),
        None | Some(_) => Err(InvalidTokenReason::Issuer),
    }
}

fn check_times(
    claims: &Members,
    source: ClaimsSource,
    leeway_s: u64,
    now_s: u64,
) -> Result<Option<u64>, InvalidTokenReason> {
    let latest = now_s.saturating_add(leeway_s);
    for begins in ["nbf", "iat"] {
        if parse_numeric_date(claims, begins)?.is_some_and(|begins| begins > latest) {
            return Err(InvalidTokenReason::Premature);
        }
    }
    let Some(expires) = parse_numeric_date(claims, "exp")? else {
        return if source == ClaimsSource::Introspection {
            Ok(None)
        } else {
            Err(InvalidTokenReason::Claims)
        };
    };
    let expires_unix_s = expires.saturating_add(leeway_s);
    if now_s >= expires_unix_s { Err(InvalidTokenReason::Expired) } else { Ok(Some(expires_unix_s)) }
}

/// Parses a `NumericDate` of RFC 7519: seconds, with or without a fraction.
fn parse_numeric_date(claims: &Members, name: &str) -> Result<Option<u64>, InvalidTokenReason> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let number: Number = value.decode().map_err(|_| InvalidTokenReason::Claims)?;
    let seconds = match (number.as_u64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the value is known to lie within the whole numbers a u64 holds"
        )]
        (None, Some(seconds)) if (0.0..1e15).contains(&seconds) => seconds as u64,
        (None, _) => return Err(InvalidTokenReason::Claims),
    };
    Ok(Some(seconds))
}

/// True when the claim, a text or a list of texts, contains one of `wanted`.
fn has_any_of(claims: &Members, name: &str, wanted: &[String]) -> Result<bool, InvalidTokenReason> {
    let Some(value) = claims.get(name) else {
        return Ok(false);
    };
    let named = match value.decode_string() {
        Some(one) => vec![one],
        None => value.decode::<Vec<String>>().map_err(|_| InvalidTokenReason::Claims)?,
    };
    Ok(named.iter().any(|name| wanted.contains(name)))
}

/// The granted scopes: `scope` of RFC 8693, or `scp` as some issuers write it.
fn granted_scopes(claims: &Members) -> Vec<String> {
    let mut granted = Vec::new();
    for value in ["scope", "scp"].iter().filter_map(|name| claims.get(name)) {
        let texts = match value.decode_string() {
            Some(one) => vec![one],
            None => value.decode::<Vec<String>>().unwrap_or_default(),
        };
        granted.extend(texts.iter().flat_map(|text| text.split(' ')).map(str::to_owned));
    }
    granted
}
