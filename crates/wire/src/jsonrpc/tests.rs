use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Message, ParseError> {
    parse(&ByteString::from(text))
}

#[test]
fn reads_the_four_kinds() {
    assert!(matches!(
        read(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        Ok(Message::Request { params: None, .. })
    ));
    assert!(matches!(
        read(r#"{"jsonrpc":"2.0","method":"x","params":{}}"#),
        Ok(Message::Notification { .. })
    ));
    assert!(matches!(
        read(r#"{"jsonrpc":"2.0","id":"a","result":{}}"#),
        Ok(Message::Response { outcome: Ok(_), .. })
    ));
    let Ok(Message::Response { id: None, outcome: Err(error) }) =
        read(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m","data":[1]}}"#)
    else {
        panic!("an error answer without an identifier is a response")
    };
    assert_eq!((error.code, error.data.unwrap().as_str()), (-1, "[1]"));
}

#[test]
fn payloads_are_slices_of_the_body() {
    let body = ByteString::from(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"a": 1.50}}"#);
    let Ok(Message::Request { params: Some(params), method, .. }) = parse(&body) else { panic!() };
    assert_eq!(params.as_str(), r#"{"a": 1.50}"#);
    assert!(body.as_bytes().as_ptr_range().contains(&params.as_str().as_ptr()));
    assert!(body.as_bytes().as_ptr_range().contains(&method.as_ptr()));
}

#[test]
fn refuses_what_is_no_message() {
    for (text, code) in [
        ("", -32700),
        ("{", -32700),
        ("nonsense", -32700),
        ("[]", -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
        ("1", -32600),
        ("{}", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1}}"#, -32600),
    ] {
        let fault = read(text).expect_err(text);
        assert_eq!(fault.code(), code, "{text}: {fault}");
    }
}

#[test]
fn depth_is_bounded_without_recursion() {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(read(&deep).unwrap_err(), ParseError::TooDeep);
    let brackets_in_text =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":"{}\""}}}}"#, "[".repeat(1000));
    assert!(read(&brackets_in_text).is_ok());
}

#[test]
fn writes_what_it_reads() {
    let id = Id::from_json(Json::parse(r#""x\"1""#).unwrap()).unwrap();
    let bytes = write_error(
        Some(&id),
        &RpcError {
            code: 429,
            message: "slow \"down\"".into(),
            data: Some(Json::parse("{\"a\":1}").unwrap()),
        },
    );
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        r#"{"jsonrpc":"2.0","id":"x\"1","error":{"code":429,"message":"slow \"down\"","data":{"a":1}}}"#
    );
    assert_eq!(
        String::from_utf8(write_error(None, &RpcError::new(-32700, "m"))).unwrap(),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}"#
    );
    assert_eq!(
        String::from_utf8(write_notification("n", &Members::new())).unwrap(),
        r#"{"jsonrpc":"2.0","method":"n"}"#
    );
}

#[test]
fn the_usual_forms_are_read_as_by_the_parser_for_all() {
    let texts = [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#" {"method":"a/b","params":{"x":[1,"]"]},"id":"q","jsonrpc":"2.0","extra":{"id":2}} "#,
        r#"{"jsonrpc":"2.0","method":"n","params":null}"#,
        r#"{"jsonrpc":"2.0","method":"n","params":[1]}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{"a":"\u00e9"}}"#,
        r#"{"jsonrpc":"2.0","result":null}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":{},"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"m","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":null,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":4,"result":{},"error":{"code":1}}"#,
        r#"{"jsonrpc":"2.0","id":4,"error":{"code":1,"message":"m","data":[1]}}"#,
        r#"{"jsonrpc":"2.0","id":4}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","i\u0064":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"\u006d"}"#,
        r#"{"jsonrpc":"2.\u0030","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
        r#"{"id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m"} {}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":01}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"	"}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"m"}]"#,
        "\"2.0\"",
        "",
    ];
    for text in texts.map(ByteString::from) {
        assert_eq!(format!("{:?}", parse(&text)), format!("{:?}", parse_general(&text)), "{text}");
    }
    assert!(parse_common(&texts[0].into()).is_some() && parse_common(&texts[4].into()).is_some());
}

/// The kind of message that a client's text parses to, or the code of the error.
fn kind(text: &str) -> String {
    match read(text) {
        Ok(Message::Request { id, method, .. }) => format!("request {} {method}", id.as_json().as_str()),
        Ok(Message::Notification { method, .. }) => format!("notification {method}"),
        Ok(Message::Response { id, outcome }) => {
            let id = id.and_then(|id| id.as_number()).map_or("none".to_owned(), |id| id.to_string());
            match outcome {
                Ok(result) => format!("answer {id} {}", result.as_str()),
                Err(error) => format!("error {id} {} {}", error.code, error.message),
            }
        }
        Err(fault) => fault.code().to_string(),
    }
}

#[test]
fn each_spelling_of_a_client_is_read_or_refused_as_listed() {
    let mut count = 0;
    let lines = include_str!("spellings_of_clients.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (text, expected) = line.rsplit_once(" => ").expect(line);
        assert_eq!(kind(text), expected, "{text}");
        assert_eq!(kind(&format!("\u{feff}{text}")), expected, "a byte order mark before {text}");
        count += 1;
    }
    assert!(count >= 30, "{count}");
}

/// A member of a request, its spelling, and whether a client may use that spelling.
fn members() -> impl Strategy<Value = Vec<(&'static str, bool)>> {
    let version = prop_oneof![
        Just((r#""jsonrpc":"2.0""#, true)),
        Just((r#""jsonrpc":"2.\u0030""#, true)),
        Just((r#""jsonrpc":2.0"#, false)),
        Just((r#""jsonrpc":null"#, false)),
        Just((r#""x":1"#, false)),
    ];
    let id = prop_oneof![
        Just((r#""id":1"#, true)),
        Just((r#""id":"a""#, true)),
        Just((r#""i\u0064":1.5"#, true)),
        Just((r#""id":null"#, false)),
        Just((r#""id":[1]"#, false)),
        Just((r#""id":1,"id":1"#, false)),
    ];
    let method = prop_oneof![
        Just((r#""method":"ping""#, true)),
        Just((r#""method":"\u0070ing""#, true)),
        Just((r#""method":5"#, false)),
        Just((r#""method":"ping","method":"ping""#, false)),
    ];
    let more = prop_oneof![
        Just((r#""params":{"a":1}"#, true)),
        Just((r#""params":null"#, true)),
        Just((r#""error":null,"result":null"#, true)),
        Just((r#""params":{},"params":{}"#, false)),
        Just((r#""params":{"a":01}"#, false)),
    ];
    (version, id, method, more).prop_map(|(a, b, c, d)| vec![a, b, c, d]).prop_shuffle()
}

proptest! {
    /// Duplicate, missing or wrongly typed members of a client's request are rejected, in any order and with
    /// any white space.
    #[test]
    fn a_request_is_read_or_refused(members in members(), space in "[ \t\n]{0,2}") {
        let legal = members.iter().all(|(_, legal)| *legal);
        let texts: Vec<&str> = members.iter().map(|(text, _)| *text).collect();
        let text = format!("{space}{{{space}{}{space}}}{space}", texts.join(&format!("{space},{space}")));
        match read(&text) {
            Ok(Message::Request { method, params, .. }) => {
                prop_assert!(legal, "{}", text);
                prop_assert_eq!(&*method, "ping");
                let is_kept = params.is_none_or(|params| params.as_str() == r#"{"a":1}"#);
                prop_assert!(is_kept, "{}", text);
            }
            Ok(other) => prop_assert!(false, "{}: {:?}", text, other),
            Err(fault) => prop_assert!(!legal, "{}: {}", text, fault),
        }
    }
}

/// Each byte order mark once cost one level of recursion.
#[test]
fn any_number_of_byte_order_marks_is_taken_off() {
    let text = ByteString::from("\u{feff}".repeat(100_000) + r#"{"jsonrpc":"2.0","method":"n"}"#);
    assert!(matches!(parse(&text), Ok(Message::Notification { .. })));
}
