use proptest::prelude::*;
use url::Url;

use super::*;

fn normal(text: &str) -> Option<String> {
    let uri = ResourceUri::from(text);
    assert_eq!(uri.original(), text);
    (!uri.is_ambiguous()).then(|| uri.as_str().to_owned())
}

#[test]
fn spellings_of_one_address_are_equal() {
    for (normal_form, spellings) in [
        (
            "note://wiki/secret",
            &[
                "note://wiki/x/../secret",
                "note://wiki/./secret",
                "NOTE://wiki/%73ecret",
                "note://wiki/secret#",
                "note://wiki/%2e/secret",
                "note://wiki/x/%2E%2e/secret",
                "note://wiki/secret?",
            ][..],
        ),
        (
            "file:///wiki/secret",
            &["file://localhost/wiki/secret", "FILE:///wiki/secret", "file:/wiki/secret"],
        ),
        (
            "https://corp.example/hr/salaries",
            &["https://CORP.example:443/wiki/../hr/salaries", "https://corp.example/wiki/%2e%2e/hr/salaries"],
        ),
        (
            "note://a/café b".replace(' ', "%20").as_str(),
            &["note://a/caf%C3%A9%20b", "note://a/café b", "note://a/caf%c3%a9 b"],
        ),
        ("urn:isbn:1", &["URN:isbn:1"]),
        ("demo://r/%E2%80%AEx", &["demo://r/\u{202e}x", "demo://r/%e2%80%aex"]),
        ("demo://r/a%3Fb%FF", &["demo://r/a%3fb%ff"]),
    ] {
        assert_eq!(normal(normal_form).as_deref(), Some(normal_form));
        for spelling in spellings {
            assert_eq!(normal(spelling).as_deref(), Some(normal_form), "{spelling}");
        }
    }
}

#[test]
fn what_readers_take_differently_has_no_normal_form() {
    for text in [
        "note://wiki/sec\tret",
        "note://wiki/secret\n",
        " note://wiki/secret",
        "note://wiki/secret ",
        "note://wiki/secret\u{a0}",
        "note://wiki\\secret",
        "file:///wiki/\\secret",
        "https://a/wiki/..\\hr",
        "note://wiki/a%2Fb",
        "note://wiki/a%5cb",
        "note://wiki/a%00",
        "note://wiki/a\0",
        "note://wiki/%252e%252e/x",
        "note://wiki//secret",
        "https://user@corp.example/x",
        "note://wiki/100%",
        "memo",
        "",
        "note://wiki/%zz",
    ] {
        assert_eq!(normal(text), None, "{text:?}");
        assert_eq!(ResourceUri::from(text).as_str(), text);
    }
    assert_eq!(normal(&format!("note://{}", "x".repeat(20_000))), None);
}

#[test]
fn readings_are_what_careless_readers_make_of_it() {
    let readings = |text: &str| -> Vec<String> {
        ResourceUri::from(text).interpretations().map(Cow::into_owned).collect()
    };
    assert_eq!(readings("note://wiki/secret"), ["note://wiki/secret"]);
    assert_eq!(
        readings("note://WIKI/secret/#x"),
        ["note://WIKI/secret/#x", "note://WIKI/secret/", "note://WIKI/secret", "note://wiki/secret"]
    );
    assert_eq!(readings("note://wiki/secret#x"), ["note://wiki/secret#x", "note://wiki/secret"]);
    assert_eq!(readings("file:///"), ["file:///"]);
}

#[test]
fn parts_know_their_wholes() {
    let parents = |text: &str| -> Vec<String> {
        ResourceUri::from(text).with_parents().map(|uri| uri.as_str().to_owned()).collect()
    };
    assert_eq!(
        parents("file:///a/b.txt#l3"),
        ["file:///a/b.txt#l3", "file:///a/b.txt", "file:///a/", "file:///a", "file:///"]
    );
    assert_eq!(parents("x:y/z"), ["x:y/z", "x:y/", "x:y"]);
    assert_eq!(parents("demo://one"), ["demo://one"]);
    assert_eq!(parents(""), [""]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A server that normalises by WHATWG reads the original spelling and the normal form as the same URI,
    /// and the normal form is its own normal form.
    #[test]
    fn a_normalising_server_reads_the_same(
        scheme in "(note|NOTE|file|https|HTTP|x-y)",
        host in "(|wiki|WIKI|corp.example|Corp.Example:443|corp.example:80)",
        segments in proptest::collection::vec(
            "(secret|%73ecret|%2e|%2E%2e|\\.|\\.\\.|x|a b|caf\u{e9}|caf%C3%A9|%2f|a\\\\b|%25|100%|\t|\u{202e}|A~b|)", 0..6),
        tail in "(|#|\\?|#x|\\?q=%41| |\n)",
    ) {
        let given = format!("{scheme}://{host}/{}{tail}", segments.join("/"));
        let Some(normal_form) = normal(&given) else { return Ok(()) };
        prop_assert_eq!(normal(&normal_form), Some(normal_form.clone()), "{}", given);
        // A server that also decodes what needs no encoding, and ignores an empty query or fragment.
        let server = |text: &str| {
            let url = Url::parse(text).unwrap();
            let text = url.as_str().trim_end_matches('#').trim_end_matches('?').to_owned();
            let mut decoded = text;
            for _ in 0..2 {
                for code in (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').chain(*b"-._~") {
                    let c = char::from(code).to_string();
                    decoded = decoded.replace(&format!("%{code:02X}"), &c).replace(&format!("%{code:02x}"), &c);
                }
            }
            Url::parse(&decoded).unwrap().as_str().to_owned()
        };
        prop_assert_eq!(server(&given), server(&normal_form), "{}", given);
    }
}
