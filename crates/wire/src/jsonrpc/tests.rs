use super::*;

fn read(text: &str) -> Result<Message, ParseFault> {
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
    assert_eq!(read(&deep).unwrap_err(), ParseFault::TooDeep);
    let brackets_in_text =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":"{}\""}}}}"#, "[".repeat(1000));
    assert!(read(&brackets_in_text).is_ok());
}

#[test]
fn writes_what_it_reads() {
    let id = Id::from_json(Json::parse(r#""x\"1""#).unwrap()).unwrap();
    let bytes = error(
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
        String::from_utf8(error(None, &RpcError::new(-32700, "m"))).unwrap(),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}"#
    );
    assert_eq!(
        String::from_utf8(notification("n", &Members::new())).unwrap(),
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
        assert_eq!(format!("{:?}", parse(&text)), format!("{:?}", parse_any(&text)), "{text}");
    }
    assert!(usual(&texts[0].into()).is_some() && usual(&texts[4].into()).is_some());
}
