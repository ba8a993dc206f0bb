use super::{ExpandError, expand_text};

fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("t0p".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${TOKEN}".to_owned()),
        _ => None,
    }
}

#[test]
fn replaces_references() {
    for (text, value, used) in [
        ("plain $TOKEN $5 }", "plain $TOKEN $5 }", false),
        ("${TOKEN}", "t0p", true),
        ("Bearer ${env:TOKEN}!", "Bearer t0p!", true),
        ("${TOKEN}${TOKEN}", "t0pt0p", true),
        ("$${TOKEN}", "${TOKEN}", false),
        ("a$${b} ${TOKEN}", "a${b} t0p", true),
        ("${NESTED}", "${TOKEN}", true),
        ("${EMPTY}", "", true),
        ("${EMPTY:-x}", "x", true),
        ("${GONE:-a:-b}", "a:-b", true),
        ("${GONE:-}", "", true),
    ] {
        assert_eq!(expand_text(text, &env), Ok((value.to_owned(), used)), "{text}");
    }
}

#[test]
fn refuses_what_it_cannot_follow() {
    for (text, error) in [
        ("${GONE}", ExpandError::Missing("GONE".into())),
        ("${env:GONE}", ExpandError::Missing("GONE".into())),
        ("${TOKEN", ExpandError::Unclosed),
        ("${}", ExpandError::InvalidName(String::new())),
        ("${1X}", ExpandError::InvalidName("1X".into())),
        ("${a b}", ExpandError::InvalidName("a b".into())),
        ("${input:key}", ExpandError::EditorInput("input:key".into())),
    ] {
        assert_eq!(expand_text(text, &env), Err(error), "{text}");
    }
}
