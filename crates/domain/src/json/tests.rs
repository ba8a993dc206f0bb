use super::*;

#[test]
fn members_keep_order_numbers_and_unknown_keys() {
    let text = r#"{"b": 1.0,"a":1e3, "n":{"x" : [1 , 2]},"b2":"\u00e9"}"#;
    let json = Json::parse(text).unwrap();
    assert_eq!(
        json.members().unwrap().to_json().as_str(),
        r#"{"b":1.0,"a":1e3,"n":{"x" : [1 , 2]},"b2":"\u00e9"}"#
    );
}

#[test]
fn set_replaces_in_place_and_leaves_one() {
    let mut members = Json::parse(r#"{"a":1,"n\u0061me":"x","b":2,"name":"y"}"#).unwrap().members().unwrap();
    assert_eq!(members.get("name").unwrap().as_str(), r#""y""#);
    members.set("name", Json::string("z"));
    assert_eq!(members.to_json().as_str(), r#"{"a":1,"n\u0061me":"z","b":2}"#);
    members.set("new", Json::boolean(true));
    assert_eq!(members.take("name").unwrap().as_str(), r#""z""#);
    assert_eq!(members.to_json().as_str(), r#"{"a":1,"b":2,"new":true}"#);
}

#[test]
fn parse_shares_and_trims() {
    let json = Json::parse("  [1, \"x\"]\n").unwrap();
    assert_eq!(json.as_str(), "[1, \"x\"]");
    assert_eq!(json.elements().unwrap()[1].to_text().unwrap(), "x");
    assert!(Json::parse("{} {}").is_err());
    assert!(Json::parse("").is_err());
}

#[test]
fn append_keeps_what_came_and_the_newcomer_wins() {
    let members = |text: &str| Json::parse(text.to_owned()).unwrap().members().unwrap();
    let mut all = members(r#"{"a":1,"b":2}"#);
    all.append(members(r#"{"c":3,"\u0061":4,"c":5}"#));
    assert_eq!(all.to_json().as_str(), r#"{"b":2,"c":3,"\u0061":4,"c":5}"#);
}
