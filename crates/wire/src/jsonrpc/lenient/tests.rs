use proptest::prelude::*;

use super::*;
use crate::jsonrpc::RpcError;

fn parse_all(bytes: &[u8]) -> Vec<Result<Message, UnreadableMessage>> {
    let mut found = Vec::new();
    parse_lenient(Bytes::copy_from_slice(bytes), |message| found.push(message));
    found
}

/// What call 7 gets from these bytes: its result or error, its end, or nothing.
fn told(bytes: &[u8]) -> String {
    let mut told = Vec::new();
    for message in parse_all(bytes) {
        match message {
            Ok(Message::Response { id, outcome }) if id.as_ref().and_then(Id::as_number) == Some(7) => {
                told.push(match outcome {
                    Ok(result) => result.as_str().to_owned(),
                    Err(RpcError { code, message, .. }) => format!("{code} {message}"),
                });
            }
            Ok(Message::Response { .. }) => told.push("another's answer".to_owned()),
            Ok(Message::Request { method, .. }) => told.push(format!("request {method}")),
            Ok(Message::Notification { method, .. }) => told.push(format!("notification {method}")),
            Err(UnreadableMessage { id: Some(7), .. }) => told.push("ended".to_owned()),
            Err(UnreadableMessage { id: Some(_), .. }) => told.push("another ended".to_owned()),
            Err(UnreadableMessage { id: None, is_message, .. }) => {
                told.push(if is_message { "a broken message" } else { "no message" }.to_owned());
            }
        }
    }
    told.join(", ")
}

/// Every spelling that is accepted, and every one that is rejected at once.
const SPELLINGS: &str = include_str!("spellings.txt");

#[test]
fn each_spelling_is_read_or_refused_as_listed() {
    let mut count = 0;
    for line in SPELLINGS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (text, expected) = line.rsplit_once(" => ").expect(line);
        assert_eq!(told(text.as_bytes()), expected, "{text}");
        count += 1;
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn bytes_that_are_not_utf8_are_replaced() {
    let answer = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"text\":\"gr\xfc\xdfe\"}}";
    assert_eq!(told(answer), "{\"text\":\"gr\u{fffd}\u{fffd}e\"}");
    let marked = b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}";
    assert_eq!(told(marked), "{}");
}

#[test]
fn the_usual_form_shares_its_bytes() {
    let bytes = Bytes::from_static(br#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#);
    let range = bytes.as_ptr_range();
    parse_lenient(bytes, |message| {
        let Ok(Message::Response { outcome: Ok(result), .. }) = message else { panic!("an answer") };
        assert!(range.contains(&result.as_str().as_ptr()));
    });
}

#[test]
fn deep_nesting_ends_the_call() {
    let deep = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{}}}"#, "[".repeat(100_000));
    assert_eq!(told(deep.as_bytes()), "ended");
}

/// A hostile text costs a bounded number of passes. Without the bound this would take minutes.
#[test]
fn hostile_texts_are_given_up_soon() {
    let braces = "x".to_owned() + &"{\"a\":NaN,".repeat(2_000_000);
    let found = parse_all(braces.as_bytes());
    assert!(matches!(found.as_slice(), [Err(_)]));
    let spaces = "{\"a\":1}".repeat(9_000) + &" ".repeat(20_000_000);
    assert_eq!(parse_all(spaces.as_bytes()).len(), 9_000);
    let doubled = format!("{{{}{}\"x\":1}}", "\"id\":1,".repeat(500_000), "\"method\":1,".repeat(500_000));
    assert!(matches!(parse_all(doubled.as_bytes()).as_slice(), [Err(_)]));
    let nans = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":[{}", "NaN,".repeat(2_000_000));
    assert_eq!(told(nans.as_bytes()), "ended");
}

#[test]
fn the_identifier_is_found_by_the_outermost_member_or_the_end() {
    for (text, expected) in [
        (r#"{"jsonrpc":"2.0","id":7,"result":{"a":tru"#, Some(7)),
        (r#"{"id" : "7" ,"result":{"#, Some(7)),
        (r#"{"result":{"id":5,"x":[bad]},"id":7}"#, Some(7)),
        (r#"{"result":"unended,"id":7}"#, Some(7)),
        (r#"{"result":{"id":5"#, None),
        (r#"{"method":"ping","id":7,"params":{x}}"#, None),
        (r#"{"result":"\"id\":5"#, None),
        ("no object", None),
    ] {
        let marked = text.replacen('{', r#"{"jsonrpc":"2.0","#, 1);
        assert_eq!(describe_invalid(&marked, String::new()).id, expected, "{text}");
    }
}

/// Spellings of a response to call 7, and how many responses and ends they produce.
fn envelope() -> impl Strategy<Value = (String, (usize, usize))> {
    let id = prop_oneof![Just("7"), Just("\"7\""), Just("7.0"), Just("7e0"), Just(" 7 ")];
    let version = prop_oneof![
        Just(""),
        Just(r#""jsonrpc":"2.0","#),
        Just(r#""jsonrpc":2.0,"#),
        Just(r#""jsonrpc":null,"#)
    ];
    let outcome = prop_oneof![
        Just((r#""result":{"a":1}"#, true)),
        Just((r#""result":{"a":1},"error":null"#, true)),
        Just((r#""error":null,"result":{"a":NaN}"#, true)),
        Just((r#""result":null,"error":{"code":"-1","message":null}"#, true)),
        Just((r#""error":"no""#, true)),
        Just((r#""result":{},"error":{"code":1}"#, true)),
        Just((r#""result":{},"result":{}"#, false)),
        Just((r#""res":{}"#, false)),
    ];
    let nulls = prop_oneof![Just(""), Just(r#","method":null"#), Just(r#","params":null,"method":null"#)];
    let around = prop_oneof![
        Just(("", "")),
        Just(("\u{feff}", "\r")),
        Just(("INFO done: ", "")),
        Just(("", " trailing words")),
        Just(("[", "]")),
    ];
    (id, version, outcome, nulls, around).prop_map(
        |(id, version, (outcome, readable), nulls, (before, after))| {
            // After other words a message is recognised by one of its members. Without one it is a log line.
            let is_known = before != "INFO done: " || !version.is_empty() || outcome.contains("\"result\"");
            let expected = (usize::from(readable && is_known), usize::from(!readable && is_known));
            (format!(r#"{before}{{{version}"id":{id},{outcome}{nulls}}}{after}"#), expected)
        },
    )
}

proptest! {
    #[test]
    fn an_answer_is_read_or_ends_its_call((text, expected) in envelope()) {
        let found = parse_all(text.as_bytes());
        let answers = found.iter().filter(|message| matches!(
            message,
            Ok(Message::Response { id: Some(id), .. }) if id.as_number() == Some(7)
        ));
        let ends = found.iter().filter(|message| matches!(message, Err(UnreadableMessage { id: Some(7), .. })));
        prop_assert_eq!((answers.count(), ends.count()), expected, "{}", text);
    }

    /// Any bytes produce at least one report, and never a response to a call that they do not name.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let found = parse_all(&bytes);
        prop_assert!(!found.is_empty());
        let answers = found.iter().any(|message| matches!(message, Ok(Message::Response { id: Some(_), .. })));
        prop_assert!(!answers);
    }

    /// A truncated message never waits for the time-out: it ends its call, or is clearly not a message.
    #[test]
    fn a_cut_message_is_noticed(end in 0_usize..80) {
        let whole = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"hello"}]}}"#;
        let cut = whole.get(..end.min(whole.len() - 1)).unwrap();
        let expected = if cut.contains("\"id\":7") { "ended" } else if cut.contains("\"jsonrpc\"") {
            "a broken message"
        } else {
            "no message"
        };
        prop_assert_eq!(told(cut.as_bytes()), expected, "{}", cut);
    }
}
