use super::*;

#[test]
fn comments_and_trailing_commas_are_allowed() {
    let server = r#"{"mcpServers":{/* a */"files":{"command":"x // y",}, // b
        },}"#;
    assert_eq!(names(server), ["files"]);
    let error = |text: &str| {
        let problem = servers(text).problems.remove(0);
        (problem.line, problem.message)
    };
    let cases = [
        ("{\n/* two\nlines */ \"mcpServers\": {]}", 3, "column 25: Unexpected token in object"),
        ("{'mcpServers': {}}", 1, "column 2: Single-quoted strings are not allowed"),
        ("{\"mcpServers\": {} /* open", 1, "column 19: Unterminated comment block"),
        ("{\"mcpServers\": {}} {}", 1, "column 20: Text cannot contain more than one JSON value"),
    ];
    for (text, line, message) in cases {
        assert_eq!(error(text), (Some(line), format!("not valid JSON at {message}")));
    }
}

fn servers(text: &str) -> Servers {
    parse(text, Some(&|_: &str| None))
}

fn names(text: &str) -> Vec<String> {
    servers(text).backends.into_iter().map(|backend| backend.name).collect()
}

#[test]
fn a_server_that_is_switched_off_in_any_words_is_left_out() {
    for off in [
        r#""disabled":true"#,
        r#""disabled":"true""#,
        r#""enabled":false"#,
        r#""enabled":"false""#,
        r#""isActive":false"#,
        r#""active":false"#,
    ] {
        let text = format!(r#"{{"mcpServers":{{"a":{{"command":"x"}},"b":{{"command":"y",{off}}}}}}}"#);
        assert_eq!(names(&text), ["a"], "{off}");
        assert!(servers(&text).warnings.iter().any(|warning| warning.path == "mcpServers.b"), "{off}");
    }
    let on = r#"{"mcpServers":{"b":{"command":"y","enabled":true,"disabled":false,"isActive":null}}}"#;
    assert_eq!(names(on), ["b"]);
    assert!(servers(on).warnings.is_empty());
}

#[test]
fn null_members_are_absent_and_types_are_read_in_any_case() {
    let read = |server: &str| {
        let Servers { mut backends, problems, .. } =
            servers(&format!(r#"{{"mcpServers":{{"a":{server}}}}}"#));
        assert!(problems.is_empty(), "{server}: {problems:?}");
        backends.remove(0)
    };
    let nulls =
        read(r#"{"url":"http://x/mcp","command":null,"args":null,"env":null,"headers":null,"type":null}"#);
    assert_eq!((nulls.url.as_deref(), nulls.command, nulls.args.len()), (Some("http://x/mcp"), None, 0));
    for (word, transport) in [
        ("HTTP", Some(BackendTransport::StreamableHttp)),
        ("streamable_http", Some(BackendTransport::StreamableHttp)),
        ("Streamable-HTTP", Some(BackendTransport::StreamableHttp)),
        ("SSE", Some(BackendTransport::Sse)),
        ("Stdio", Some(BackendTransport::Stdio)),
        ("remote", None),
    ] {
        let found = read(&format!(r#"{{"url":"http://x/mcp","type":"{word}"}}"#)).transport;
        assert!(found == transport, "{word}");
    }
}

#[test]
fn the_words_of_other_clients_are_told_the_right_ones() {
    for (text, hint) in [
        (r#"{"mcpServers":{"a":{"serverUrl":"http://x"}}}"#, "it should be `url`"),
        (r#"{"mcpServers":{"a":{"httpUrl":"http://x"}}}"#, "it should be `url`"),
        (r#"{"mcpServers":{"a":{"cmd":"x"}}}"#, "it should be `command`"),
        (r#"{"context_servers":{}}"#, "`context_servers` should be `mcpServers`, a map of servers by name"),
        (r#"{"mcp":{"servers":{}}}"#, "`mcp` should be `mcpServers`, a map of servers by name"),
    ] {
        let hints: Vec<String> =
            servers(text).problems.into_iter().filter_map(|problem| problem.hint).collect();
        assert!(hints.iter().any(|found| found == hint), "{text}: {hints:?}");
    }
}
