use super::without_comments;

#[test]
fn comments_and_final_commas_become_blanks() {
    for (text, stripped) in [
        ("{} // x", "{}     "),
        ("[1, /* a */ 2,]", "[1,         2 ]"),
        ("[1, // a\n]", "[1      \n]"),
        ("{\"a\": \"// b /* ,]\"}", "{\"a\": \"// b /* ,]\"}"),
        ("[\"\\\",\", ]", "[\"\\\",\"  ]"),
        ("/* open", "       "),
        ("/*/ x */1", "        1"),
        ("[\"ä\", // ö\n]", "[\"ä\"       \n]"),
        ("\"open", "\"open"),
    ] {
        assert_eq!(without_comments(text), stripped, "{text}");
    }
}
