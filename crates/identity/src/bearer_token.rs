//! Parses the `Authorization` header: exactly one bearer token (RFC 6750, section 2.1). Tokens in bodies and
//! query strings are ignored.

use vmcp_domain::{InvalidTokenReason, Unauthorized};

/// The largest accepted credential, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 << 10;

/// The token of a header value.
pub(crate) fn parse(authorization: Option<&[u8]>) -> Result<&str, Unauthorized> {
    let value = authorization.ok_or(Unauthorized::Missing)?;
    let value = std::str::from_utf8(value).map_err(|_| Unauthorized::Malformed)?;
    let (scheme, token) = value.trim_matches(' ').split_once(' ').ok_or(Unauthorized::Malformed)?;
    let token = token.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || !is_b64token(token) {
        return Err(Unauthorized::Malformed);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Unauthorized::InvalidToken(InvalidTokenReason::TooLarge));
    }
    Ok(token)
}

/// True for a `b64token` of RFC 6750.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    // There is no early exit, so that the compiler can check many bytes at once.
    !body.is_empty() && body.bytes().fold(true, |fine, byte| fine & fits(byte))
}

#[cfg(test)]
mod tests;
