use super::*;

#[test]
fn the_well_known_path_goes_between_host_and_path() {
    for (resource, expected) in [
        ("https://a.example/mcp", "https://a.example/.well-known/oauth-protected-resource/mcp"),
        ("https://a.example/x/mcp/", "https://a.example/.well-known/oauth-protected-resource/x/mcp"),
        ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource"),
        ("http://a.example:8443", "http://a.example:8443/.well-known/oauth-protected-resource"),
    ] {
        assert_eq!(metadata_url(resource), expected);
    }
}

#[test]
fn what_stands_in_quotes_cannot_leave_them() {
    let challenge = Challenge { realm: r#"a"b\c"#.to_owned(), ..Challenge::default() };
    let value = www_authenticate(&Unauthorized::Missing, "invalid_request", &challenge);
    assert_eq!(
        value,
        r#"Bearer realm="a\"b\\c", error="invalid_request", error_description="an access token is required""#
    );
    let broken = Challenge { realm: "line\nbreak".to_owned(), ..Challenge::default() };
    let response = unauthorized_response(&Unauthorized::Missing, &broken);
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
}
