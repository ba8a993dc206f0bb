use super::*;

fn decoded(text: &str) -> Value {
    Value::decode(&Json::parse(text.to_owned()).unwrap())
}

#[test]
fn objects_keep_their_text() {
    let value = decoded(r#"{"b": 1.0, "a": [1, {"c": 18446744073709551616}]}"#);
    assert_eq!(value.to_json().as_str(), r#"{"b": 1.0, "a": [1, {"c": 18446744073709551616}]}"#);
    let list = value.member("a").unwrap();
    assert_eq!(list.to_json().as_str(), r#"[1, {"c": 18446744073709551616}]"#);
    assert_eq!(value, decoded(r#"{"a": [1.0, {"c": 18446744073709551616}], "b": 1}"#));
}

#[test]
fn a_changed_object_is_written_anew() {
    let value = decoded(r#"{"a": 1}"#);
    let Value::Object(object) = value.resolve() else { panic!("no object") };
    let mut object = Object::clone(object);
    object.insert("b", Value::string("\u{1}\""));
    let written = Value::Object(Arc::new(object)).to_json();
    assert_eq!(written.as_str(), r#"{"a":1,"b":"\u0001\""}"#);
}

#[test]
fn the_last_of_equal_members_counts() {
    assert_eq!(decoded(r#"{"a": 1, "a": 2}"#).member("a"), Some(Value::integer(2)));
}
