use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::is_json;

const DEEP: usize = 64;

/// The verdict of `serde_json`. It has a depth limit of its own, which these texts do not reach.
fn is_json_to_serde(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Cases that validators often get wrong.
#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "", " ", "{", "}", "[", "]", "[]", "{}", " [ ] ", "{ }", "[1,]", "[,1]", "[1 2]", "[1,,2]", "{\"a\"}",
    "{\"a\":}", "{\"a\":1,}", "{,}", "{1:2}", "{\"a\" : 1 , \"b\":[]}", "[1}", "{\"a\":1]", "null", "nul",
    "nulll", "true false", "tru", "falsE", "0", "-0", "01", "-", "-a", "1.", ".5", "1.5", "1.5.5", "1e",
    "1e+", "1e+5", "1E-05", "1e5.5", "+1", "0x1", "NaN", "Infinity", "\"", "\"a", "\"a\"b", "\"\\\"",
    "\"\\\\\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u1234\"", "\"\\ud800\"", "\"\\x\"", "\"\\", "\"\t\"",
    "\"\u{1}\"", "\"\u{7f}\"", "\"\u{e9}\u{1f600}\"", "\u{feff}1", "\u{b}1", "\u{c}1", "\u{a0}1",
    "1\n\r\t ", "[[[[]]]]", "[[[[]]]", "{\"a\":{\"b\":{}}}", "\"/\"", "'a'", "/**/1",
    "[\"a\",{\"b\":[1,2,{\"c\":null}]}]",
];

#[test]
fn agrees_with_another_parser_on_what_is_easily_got_wrong() {
    for text in TEXTS {
        assert_eq!(is_json(text, DEEP), is_json_to_serde(text), "{text:?}");
    }
}

#[test]
fn control_characters_are_found_wherever_they_stand() {
    for length in [1, 63, 64, 65, 200] {
        for index in 0..length {
            let mut inside = vec![b'x'; length];
            assert!(is_json(&format!("\"{}\"", "x".repeat(length)), DEEP));
            inside[index] = 0x1f;
            let text = format!("\"{}\"", String::from_utf8(inside).unwrap());
            assert!(!is_json(&text, DEEP), "{length} {index}");
        }
    }
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":[", "]}]")] {
        let each = open.matches(['[', '{']).count();
        let text = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(is_json(&text(4), 4 * each));
        assert!(!is_json(&text(4), 4 * each - 1));
    }
    assert!(is_json("[[]]", 2) && !is_json("[[]]", 1) && !is_json("{\"a\":{}}", 1) && !is_json("[]", 0));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{60,140}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_json_is_taken(value in value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        prop_assert!(is_json(&text.unwrap(), DEEP));
    }

    /// Nearly valid texts: a random piece is removed, inserted or changed.
    #[test]
    fn agrees_with_another_parser_on_broken_texts(
        value in value(),
        index in any::<prop::sample::Index>(),
        cut in 0_usize..3,
        put in "[\\[\\]{},:\"\\\\0-9eE.+ \\-tfnu\t\u{1}a]{0,3}",
    ) {
        let mut chars: Vec<char> = value.to_string().chars().collect();
        let start = index.index(chars.len() + 1);
        let end = (start + cut).min(chars.len());
        chars.splice(start..end, put.chars());
        let text: String = chars.into_iter().collect();
        prop_assert_eq!(is_json(&text, DEEP), is_json_to_serde(&text), "{:?}", text);
    }
}
