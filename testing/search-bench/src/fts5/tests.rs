use super::*;

#[test]
fn the_reference_asks_for_a_phrase_when_a_common_word_stands_in_the_request() {
    assert_eq!(match_expression("send mail", QueryMode::Reference), r#""send" OR "mail""#);
    assert_eq!(match_expression("send Data  now", QueryMode::Reference), r#""send Data now""#);
    assert_eq!(match_expression("weather", QueryMode::Reference), r#""weather""#);
    assert_eq!(match_expression("send Data now", QueryMode::WithoutCommonWords), r#""send" OR "now""#);
    assert_eq!(
        match_expression("the \"key\" OR", QueryMode::WithoutCommonWords),
        r#""the" OR """key""" OR "OR""#
    );
    assert_eq!(match_expression("", QueryMode::Reference), "");
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
    assert_eq!(fts5.search("sending mail", QueryMode::Reference, 9).unwrap(), [1, 2]);
    assert_eq!(fts5.search("", QueryMode::WithoutCommonWords, 9).unwrap(), [0_usize; 0]);
}
