//! Templates of workflows: any text is refused or evaluated within the bounds, and the result of a template that is one
//! action prints as that template does.

use vmcp_json::Json;
use vmcp_template::{MissingText, OUTPUT_BYTES_MAX, Rendered, Template, Value};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "templates",
    check,
    tokens: &[
        "{{",
        "}}",
        "{{-",
        "-}}",
        "if",
        "else",
        "end",
        "range",
        "with",
        "define",
        "template",
        "break",
        "$x",
        ":=",
        "|",
        "(",
        ")",
        ".params.list",
        "printf",
        "%v",
        "index",
        "fromJson",
        "json",
        "slice",
        "eq",
        "`",
        "\"",
        "/*",
        "*/",
        "1e9",
        "0x",
    ],
    sources: &[],
};

const DATA: &str = r#"{"params": {"list": [1, "b", null, {"c": 18446744073709551616}], "text": "[1, {\"a\": 2}]", "n": 1.5},
    "steps": {"a": {"output": {"text": "T"}}}}"#;

fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(template) = Template::parse(&text) else { return };
    assert!(template.data_paths().len() <= text.len(), "a reference takes at least a character");
    let data = Json::parse(DATA).map_or(Value::Missing, |json| Value::decode(&json));
    let rendered = template.render(&data, MissingText::Empty);
    if let Ok(output) = &rendered {
        // A text of the template may follow the last action that was checked.
        assert!(output.len() <= 2 * OUTPUT_BYTES_MAX + text.len(), "the output has {} bytes", output.len());
    }
    match (rendered, template.evaluate(&data, MissingText::Empty)) {
        (Ok(output), Ok(Rendered::Text(same))) => assert_eq!(output, same),
        (Ok(output), Ok(Rendered::Value(value))) => {
            let json = value.to_json();
            assert!(Json::parse(json.as_str().to_owned()).is_ok(), "{json:?}");
            if let Some(text) = value.as_text() {
                assert_eq!(output, text);
            }
        }
        (Err(_), Err(_)) => {}
        (rendered, value) => panic!("{rendered:?} is not {value:?}"),
    }
}
