use proptest::prelude::*;

use super::*;

#[test]
fn letters_that_fold_to_ascii_count() {
    for (left, right) in [
        ("name", "Name"),
        ("name", "NAME"),
        ("arguments", "argument\u{17f}"),
        ("tokens", "to\u{212a}ens"),
        ("uri", "ur\u{130}"),
        ("uri", "ur\u{131}"),
        ("straße", "STRAẞE"),
        ("σίγμα", "ΣΊΓΜΑ"),
        ("σίγμα", "ςίγμα"),
    ] {
        assert!(eq_ignore_case(left, right), "{left} {right}");
        assert_eq!(fold_case(left), fold_case(right));
    }
    for (left, right) in [("name", "names"), ("name", "nàme"), ("uri", "url"), ("ss", "ß")] {
        assert!(!eq_ignore_case(left, right), "{left} {right}");
    }
}

#[test]
fn a_known_name_has_one_spelling_and_one_place() {
    let check = |text: &str| {
        Json::parse(text.to_owned()).unwrap().members().unwrap().check_member_names(&["name", "uri"])
    };
    assert_eq!(check(r#"{"name":1,"other":2,"OTHER":3,"other":4}"#), Ok(()));
    assert_eq!(check(r#"{"name":1,"n\u0061me":2}"#), Err(Ambiguity::Duplicate("name".to_owned())));
    let case =
        |given: &str| Err(Ambiguity::CaseMismatch { given: given.to_owned(), known: "name".to_owned() });
    assert_eq!(check(r#"{"Name":1}"#), case("Name"));
    assert_eq!(check(r#"{"name":1,"\u004eAME":2}"#), case("NAME"));
}

#[test]
fn names_within_a_value_have_one_spelling() {
    let check = |text: &str| Json::parse(text.to_owned()).unwrap().check_member_names_deep(&["limit"]);
    assert_eq!(check(r#"{"a":[{"limit":1},{"limit":2}],"b":"LIMIT"}"#), Ok(()));
    assert!(check(r#"{"a":[{"b":{"Limit":1}}]}"#).is_err());
    assert!(check(r#"{"a":{"x":1,"X":2}}"#).is_err());
    assert!(check(r#"[{"x":1,"x":2}]"#).is_err());
}

proptest! {
    /// In members that pass the check, a reader that ignores letter case finds the same value as a strict
    /// reader.
    #[test]
    fn accepted_members_read_alike(
        names in proptest::collection::vec("(name|Name|NAME|n\u{e4}me|uri|URI|ur\u{131}|other|Other)", 0..5)
    ) {
        let members = names.iter().enumerate().map(|(value, name)| (name.clone(), Json::integer(value as i64)));
        let members: Members = members.collect();
        if members.check_member_names(&["name", "uri"]).is_ok() {
            for known in ["name", "uri"] {
                let blind = names.iter().rposition(|name| eq_ignore_case(name, known));
                let strict = members.get(known).map(|value| value.as_str().parse::<usize>().unwrap());
                prop_assert_eq!(blind, strict);
            }
        }
    }
}
