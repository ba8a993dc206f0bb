use proptest::prelude::*;

use super::*;

fn words(text: &str) -> String {
    let mut words = Vec::new();
    each_word(text, |word| words.push(word.to_owned()));
    words.join(" ")
}

fn stem(word: &str) -> String {
    let mut out = "kept ".to_owned();
    append_stem(word, &mut out);
    out.strip_prefix("kept ").unwrap().to_owned()
}

#[test]
fn names_of_every_spelling_come_apart() {
    for (name, expected) in [
        ("list_pull_requests", "list pull requests"),
        ("kebab-case.and/namespace:tool", "kebab case and namespace tool"),
        ("getUser", "get user getuser"),
        ("HTTPServer", "http server httpserver"),
        ("parseHTTPResponseBody", "parse http response body"),
        ("GitHub__create_issue", "git hub github create issue"),
        ("eBay", "bay ebay"),
        ("OAuth2", "auth2 oauth2"),
        ("IPv6 and PDFs", "ipv6 and pdfs"),
        ("s3 k8s base64Encode v2", "s3 k8s base64 encode base64encode v2"),
        ("get2Users", "get2 users get2users"),
        ("ALL_CAPS", "all caps"),
        ("don't", "don t"),
        ("", ""),
        ("--__..", ""),
    ] {
        assert_eq!(words(name), expected, "{name}");
    }
}

#[test]
fn a_name_is_spoken_without_its_joined_form() {
    let mut spoken = Vec::new();
    each_name_word("GitHub_getURL", |word| spoken.push(word.to_owned()));
    assert_eq!(spoken.join(" "), "git hub get url");
}

#[test]
fn scripts_without_gaps_come_in_pairs() {
    assert_eq!(words("搜索网页"), "搜索 索网 网页");
    assert_eq!(words("天气"), "天气");
    assert_eq!(words("x天y"), "x 天 y");
    assert_eq!(words("获取weather数据"), "获取 weather 数据");
    assert_eq!(words("ファイル"), "ファ ァイ イル");
}

#[test]
fn accents_and_case_do_not_count() {
    assert_eq!(words("Übersetze CAFÉ naïve Łódź"), "ubersetze cafe naive lodz");
    assert_eq!(words("ΑΒΓ Привет"), "αβγ привет");
}

#[test]
fn forms_of_a_word_share_a_stem() {
    for forms in [
        &["create", "creates", "created", "creating", "creation", "creator", "creators"][..],
        &["search", "searches", "searched", "searching"],
        &["query", "queries", "querying"],
        &["plan", "plans", "planned", "planning", "planner"],
        &["call", "calls", "called", "calling"],
        &["delete", "deletes", "deleted", "deleting", "deletion"],
        &["monitor", "monitors", "monitored", "monitoring"],
        &["generate", "generation", "generator", "generated"],
        &["retrieve", "retrieval", "retrieving"],
        &["movie", "movies"],
        &["cache", "caches", "caching", "cached"],
        &["embed", "embedding", "embeddings"],
        &["update", "updates", "updated", "updating"],
    ] {
        let stems: Vec<String> = forms.iter().map(|form| stem(form)).collect();
        assert!(stems.iter().all(|one| one == &stems[0]), "{forms:?} {stems:?}");
    }
}

#[test]
fn words_that_only_look_alike_keep_apart() {
    for (one, other) in
        [("news", "new"), ("string", "str"), ("station", "stat"), ("status", "stat"), ("speed", "spe")]
    {
        assert_ne!(stem(one), stem(other));
    }
    assert_eq!(stem("ls"), "ls");
    assert_eq!(stem("oauth2"), "oauth2");
    assert_eq!(stem("搜索"), "搜索");
}

#[test]
fn fillers_are_sorted_and_name_no_tool() {
    assert!(STOP_WORDS.is_sorted());
    assert_eq!(STOP_WORDS.iter().map(|word| word.len()).max(), Some(STOP_WORD_BYTES_MAX));
    assert!(["please", "the", "2024"].into_iter().all(is_stop_word));
    assert!(!["get", "find", "list", "s3", "search"].into_iter().any(is_stop_word));
}

#[test]
fn what_is_too_long_is_cut() {
    assert_eq!(words(&"a".repeat(WORD_BYTES_MAX + 1)), "");
    let text = "word ".repeat(TEXT_BYTES_MAX);
    let mut count = 0;
    each_word(&text, |_| count += 1);
    assert!(count <= TEXT_BYTES_MAX / 5 + 1);
    assert_eq!(truncate("aé", 2), "a");
}

proptest! {
    #[test]
    fn any_text_gives_folded_words(text in "\\PC{0,200}") {
        each_word(&text, |word| {
            assert!(!word.is_empty());
            assert!(!word.contains(|c: char| c.is_ascii_uppercase() || c.is_whitespace()), "{word:?}");
            assert!(!stem(word).is_empty());
        });
    }

    #[test]
    fn case_styles_agree(parts in proptest::collection::vec("[a-z]{2,6}", 2..5)) {
        let capital = |part: &String| part[..1].to_uppercase() + &part[1..];
        let camel: String = parts.iter().map(capital).collect();
        let mut spoken = Vec::new();
        each_name_word(&camel, |word| spoken.push(word.to_owned()));
        prop_assert_eq!(&spoken, &parts);
        prop_assert_eq!(words(&parts.join("_")), parts.join(" "));
        prop_assert_eq!(words(&parts.join("-")), parts.join(" "));
    }
}
