use std::sync::Arc;

use vmcp_domain::{BackendId, BackendToolName, RoutingTarget, ToolHints, ToolName, ToolOverride};

use super::*;

fn tool(name: &str, description: Option<&str>, definition: &str) -> Tool {
    Tool {
        contested_name: None,
        name: ToolName::from(name),
        target: RoutingTarget { backend: BackendId::from("b"), name: BackendToolName::from(name) },
        description: description.map(str::to_owned),
        hints: ToolHints::default(),
        definition: Arc::new(Json::parse(definition.to_owned()).unwrap().members().unwrap()),
        overrides: ToolOverride::default(),
    }
}

fn read(name: &str, description: Option<&str>, definition: &str) -> String {
    let document = Document::from_tool(&tool(name, description, definition));
    let entry = |(stem, counts): (&str, [u8; FIELDS])| {
        let fields = ["s", "n", "t", "d", "p"].iter().zip(counts).filter(|(_, count)| *count > 0);
        format!("{stem}:{}", fields.map(|(field, count)| format!("{field}{count}")).collect::<String>())
    };
    document.entries().map(entry).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_word_is_counted_in_its_field() {
    let definition = r#"{"name":"old","title":"Files","description":"not in force","inputSchema":{"type":"object",
        "properties":{"file":{"type":"string","description":"A path"}}}}"#;
    assert_eq!(
        read("read_file", Some("Reads a file and a file"), definition),
        "b:s1 fil:n1t1d2p1 path:p1 read:n1d1"
    );
}

#[test]
fn only_names_keep_words_that_say_nothing() {
    assert_eq!(read("who_am_i", Some("Who am I? 42"), "{}"), "am:n1 b:s1 i:n1 who:n1");
}

#[test]
fn nested_parameters_are_read_and_structure_is_not() {
    let definition = r#"{"inputSchema":{"type":"object","$schema":"ignored","required":["ignored"],
        "properties":{"filter":{"anyOf":[{"properties":{"colour":{"enum":["red","green",1]}}},{"$ref":"ignored"}]},
            "list":{"type":"array","items":{"title":"Element","default":"ignored"}},
            "description":{"type":"string"}},
        "$defs":{"ignored":{"description":"deep"}}}}"#;
    assert_eq!(
        read("t", None, definition),
        "b:s1 colour:p1 deep:p1 descript:p1 element:p1 filt:p1 green:p1 list:p1 red:p1 t:n1"
    );
}

#[test]
fn a_title_may_stand_in_the_annotations() {
    let mut one = tool("t", None, "{}");
    one.hints.title = Some("Weather".to_owned());
    assert!(
        Document::from_tool(&one)
            .entries()
            .any(|(stem, counts)| stem == "weath" && counts == [0, 0, 1, 0, 0])
    );
}

#[test]
fn a_schema_beyond_all_measure_is_cut() {
    let deep =
        (0..100).fold("{\"description\":\"bottom\"}".to_owned(), |inner, _| format!("{{\"items\":{inner}}}"));
    assert_eq!(read("t", None, &format!("{{\"inputSchema\":{deep}}}")), "b:s1 t:n1");
    let words: Vec<String> = (0..20_000).map(|n| format!("\"word{n}\"")).collect();
    let wide = format!("{{\"inputSchema\":{{\"enum\":[{}]}}}}", words.join(","));
    let document = Document::from_tool(&tool("t", None, &wide));
    assert!(document.entries().count() < 4000 && document.bytes() < 100_000, "{}", document.bytes());
    let often = format!("{{\"inputSchema\":{{\"enum\":[\"{}\"]}}}}", "twin ".repeat(1000));
    assert_eq!(read("t", None, &often), "b:s1 t:n1 twin:p255");
}

#[test]
fn what_is_embedded_reads_like_a_sentence() {
    let one = tool("github_createIssue", Some("Opens an issue.\n\n  Needs a token."), "{}");
    assert_eq!(embedding_text(&one), "b github create issue: Opens an issue. Needs a token.");
    assert_eq!(embedding_text(&tool("ping", None, "{}")), "b ping");
}

#[test]
fn the_prefix_that_names_the_server_is_no_word_of_the_name() {
    for (name, rest) in [
        ("github_create_issue", "create_issue"),
        ("GitHub-create_issue", "create_issue"),
        ("github__create", "create"),
        ("githubcreate", "githubcreate"),
        ("github_", "github_"),
        ("github", "github"),
        ("create_issue", "create_issue"),
        ("gith\u{fc}b_x", "gith\u{fc}b_x"),
    ] {
        let mut one = tool(name, None, "{}");
        one.target.backend = "github".into();
        assert_eq!(name_without_server(&one), rest, "{name}");
    }
}
