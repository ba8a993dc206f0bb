use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Json;

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
    members.insert("name", Json::string("z"));
    assert_eq!(members.to_json().as_str(), r#"{"a":1,"n\u0061me":"z","b":2}"#);
    members.insert("new", Json::boolean(true));
    assert_eq!(members.remove("name").unwrap().as_str(), r#""z""#);
    assert_eq!(members.to_json().as_str(), r#"{"a":1,"b":2,"new":true}"#);
}

#[test]
fn parse_shares_and_trims() {
    let json = Json::parse("  [1, \"x\"]\n").unwrap();
    assert_eq!(json.as_str(), "[1, \"x\"]");
    assert_eq!(json.elements().unwrap()[1].decode_string().unwrap(), "x");
    assert!(Json::parse("{} {}").is_err());
    assert!(Json::parse("").is_err());
}

#[test]
fn append_keeps_what_came_and_the_newcomer_wins() {
    let members = |text: &str| Json::parse(text.to_owned()).unwrap().members().unwrap();
    let mut all = members(r#"{"a":1,"b":2}"#);
    all.merge(members(r#"{"c":3,"\u0061":4,"c":5}"#));
    assert_eq!(all.to_json().as_str(), r#"{"b":2,"c":3,"\u0061":4,"c":5}"#);
}

/// An object as serde, an independent reader, splits it.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> serde::de::Visitor<'de> for Reader {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[test]
fn members_stand_where_another_reader_finds_them() {
    let texts = [
        "{}",
        "{ }",
        r#"{"a":1}"#,
        r#"{ "a" : [ { "]": "}" } , 2.5e-3 ] , "b\"\\" : null , "c": "\u00e9\\", "a":-0}"#,
        r#"{"":"","x":{"y":{"z":[[],{},[{}]]}},"long":"é😀 \n\\\"","t":true ,"f":false}"#,
    ];
    for text in texts {
        let json = Json::parse(text).unwrap();
        let found = json.members().unwrap();
        let expected: Pairs<'_> = serde_json::from_str(json.as_str()).unwrap();
        assert_eq!(found.len(), expected.0.len(), "{text}");
        for ((key, value), (expected_key, expected_value)) in found.iter().zip(&expected.0) {
            assert_eq!((&*key, value.as_str()), (expected_key.as_str(), expected_value.get()), "{text}");
        }
    }
    for text in ["[]", "1", r#""{}""#, "null"] {
        assert!(Json::parse(text).unwrap().members().is_err(), "{text}");
    }
}

#[test]
fn a_large_value_is_left_out_where_it_belongs() {
    let text = r#"{"a":1,"b":"long enough","c":"long enough too"}"#;
    let members = Json::parse(text).unwrap().members().unwrap();
    let mut out = b"{".to_vec();
    let (offset, value) = members.write_pairs_without_large(&mut out, 10).unwrap();
    let (before, after) = out.split_at(offset);
    assert_eq!([before, value.as_bytes(), after, b"}"].concat(), text.as_bytes());
    assert_eq!(value, r#""long enough""#);
    assert!(members.write_pairs_without_large(&mut out, 100).is_none());
}
