use super::*;

#[test]
fn one_bearer_token_or_nothing() {
    for (value, expected) in [
        ("Bearer abc", Ok("abc")),
        ("bearer   a-._~+/b==", Ok("a-._~+/b==")),
        ("BEARER x ", Ok("x")),
        ("", Err(Unauthorized::Malformed)),
        ("Bearer", Err(Unauthorized::Malformed)),
        ("Bearer ", Err(Unauthorized::Malformed)),
        ("Bearer =", Err(Unauthorized::Malformed)),
        ("Bearer a b", Err(Unauthorized::Malformed)),
        ("Bearer a,Bearer b", Err(Unauthorized::Malformed)),
        ("Bearer a=b", Err(Unauthorized::Malformed)),
        ("Bearer \u{e9}", Err(Unauthorized::Malformed)),
        ("Bearer\ta", Err(Unauthorized::Malformed)),
        ("Basic abc", Err(Unauthorized::Malformed)),
        ("abc", Err(Unauthorized::Malformed)),
    ] {
        assert_eq!(parse(Some(value.as_bytes())), expected, "{value}");
    }
    assert_eq!(parse(None), Err(Unauthorized::Missing));
    assert_eq!(parse(Some(b"Bearer \xff")), Err(Unauthorized::Malformed));
    let large = format!("Bearer {}", "a".repeat(TOKEN_BYTES_MAX + 1));
    assert_eq!(parse(Some(large.as_bytes())), Err(Unauthorized::InvalidToken(InvalidTokenReason::TooLarge)));
}
