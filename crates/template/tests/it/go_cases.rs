//! 177 templates, and what Go prints for each. The table below has every deliberate difference.

use std::collections::BTreeMap;

use serde_json::Value as Data;
use vmcp_json::Json;
use vmcp_template::{MissingText, Template, Value};

const CASES: &str = include_str!("go_cases.json");

/// A case, what it prints here, and why that is not what Go prints.
const DIFFERENCES: [(&str, &str, &str); 25] = [
    ("num-02", "1000000", WHOLE),
    ("num-03", "12345678", WHOLE),
    ("num-04", "9007199254740993", EXACT),
    ("num-11", "9007199254740993", EXACT),
    ("num-14", "true", BY_VALUE),
    ("num-17", "true", BY_VALUE),
    ("num-18", "true", BY_VALUE),
    ("num-25", "true", BY_VALUE),
    ("num-26", "1000000 1000000 3 16 1000", WHOLE),
    ("num-27", "3", BY_VALUE),
    ("num-30", "3 1000000", WHOLE),
    ("num-32", "[1234567890123456789,1.5,1000]", EXACT),
    ("num-33", "[1234567890123456789,1.5,1000]", EXACT),
    ("print-01", r#"["a","b","c"]"#, AS_JSON),
    ("print-02", "[1,2,3]", AS_JSON),
    ("print-03", r#"{"a":1,"b":2,"c":{"d":"deep"}}"#, AS_JSON),
    ("print-04", r#"[1,"x",true,null,{"k":[2]}]"#, AS_JSON),
    (
        "print-05",
        r#"{"count":10,"items":[{"id":1},{"id":2}],"ok":true,"text":"T","total":150,"user":{"name":"Bob"}}"#,
        AS_JSON,
    ),
    ("print-08", r#""<a href='x'>&</a>""#, "JSON needs no escapes for HTML"),
    ("print-16", r#"{"items":[1,"two",null],"user":{"n":5,"name":"Alice"}}"#, AS_JSON),
    ("print-23", "[] {}", AS_JSON),
    ("print-32", r#"{"a":1,"b":2,"c":{"d":"deep"}}"#, AS_JSON),
    ("range-03", r#"a:1;b:2;c:{"d":"deep"};"#, AS_JSON),
    ("range-10", "012", BY_VALUE),
    ("syntax-23", "a", BY_VALUE),
];
const WHOLE: &str = "whole numbers print without an exponent";
const EXACT: &str = "integers keep their digits";
const BY_VALUE: &str = "a number is compared and used by its value, whatever its spelling";
const AS_JSON: &str = "lists and objects print as JSON";

/// The data of a case.
fn data(base: &Data, name: Option<&str>) -> Value {
    let mut data = base.clone();
    match name {
        None => {}
        Some("forEach") => data["forEach"] = serde_json::json!({"item": {"name": "pkg", "n": 3}, "index": 2}),
        // Go has integers there, and floating-point numbers in `base`.
        Some("yamlInt") => {}
        Some(other) => panic!("no data is called {other}"),
    }
    Value::decode(&Json::encode(&data).unwrap())
}

#[test]
fn templates_print_what_go_prints_or_what_the_table_says() {
    let file: Data = serde_json::from_str(CASES).unwrap();
    let differences: BTreeMap<&str, &str> = DIFFERENCES.iter().map(|(id, ours, _)| (*id, *ours)).collect();
    assert_eq!(differences.len(), DIFFERENCES.len());
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 177);
    let (mut faults, mut unused) = (Vec::new(), differences.clone());
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let data = data(&file["base"], case["data"].as_str());
        let printed =
            Template::parse(case["template"].as_str().unwrap()).map_err(|error| error.to_string()).and_then(
                |template| template.render(&data, MissingText::NoValue).map_err(|error| error.to_string()),
            );
        let go = case["go"].as_str();
        let expected = differences.get(id).copied().or(go);
        if unused.remove(id).is_some() && printed.as_deref().ok() == go {
            faults.push(format!("{id} is in the table, but Go prints the same"));
        }
        match (&printed, expected) {
            (Ok(printed), Some(expected)) if printed == expected => {}
            (Err(_), None) => {}
            (printed, expected) => {
                faults.push(format!("{id} {}: {printed:?}, not {expected:?}", case["template"]))
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(unused.is_empty(), "no such cases: {unused:?}");
}
