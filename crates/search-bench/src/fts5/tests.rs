use super::*;

#[test]
fn the_reference_asks_for_a_phrase_when_a_common_word_stands_in_the_request() {
    assert_eq!(expression("send mail", Asking::Reference), r#""send" OR "mail""#);
    assert_eq!(expression("send Data  now", Asking::Reference), r#""send Data now""#);
    assert_eq!(expression("weather", Asking::Reference), r#""weather""#);
    assert_eq!(expression("send Data now", Asking::Dropping), r#""send" OR "now""#);
    assert_eq!(expression("the \"key\" OR", Asking::Dropping), r#""the" OR """key""" OR "OR""#);
    assert_eq!(expression("", Asking::Reference), "");
}

#[test]
fn it_finds_by_stems_best_first() {
    let tool = |name, description| {
        crate::data::tool(name, Some(description), &serde_json::Value::Null, None).unwrap()
    };
    let fts5 = Fts5::build(&[
        tool("a_b", "nothing"),
        tool("send", "sends mails"),
        tool("c", "one mail of many words here"),
    ])
    .unwrap();
    assert_eq!(fts5.search("sending mail", Asking::Reference, 9).unwrap(), [1, 2]);
    assert_eq!(fts5.search("", Asking::Dropping, 9).unwrap(), [0_usize; 0]);
}
