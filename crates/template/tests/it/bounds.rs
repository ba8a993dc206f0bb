//! Templates of any text end soon, without a panic and without much memory.

use vmcp_json::Json;
use vmcp_template::{MissingText, OUTPUT_BYTES_MAX, TEMPLATE_BYTES_MAX, Template, Value};

fn data() -> Value {
    let list: Vec<u32> = (0..10_000).collect();
    Value::decode(&Json::encode(&serde_json::json!({"list": list, "text": "x".repeat(1 << 20)})).unwrap())
}

fn error(text: &str) -> String {
    match Template::parse(text) {
        Err(error) => error.to_string(),
        Ok(template) => template.render(&data(), MissingText::Empty).unwrap_err().to_string(),
    }
}

#[test]
fn what_does_not_end_is_ended() {
    let loops = "{{range .list}}{{range $.list}}{{end}}{{end}}";
    assert!(error(loops).contains("more than 1000000 steps"), "{}", error(loops));
    assert!(error("{{range 9223372036854775807}}{{end}}").contains("steps"));
    let endless = r#"{{define "a"}}{{template "a"}}{{end}}{{template "a"}}"#;
    assert!(error(endless).contains("deeper than 100 levels"), "{}", error(endless));
    let long = "{{range .list}}{{$.text}}{{end}}";
    assert!(error(long).contains(&format!("longer than {OUTPUT_BYTES_MAX} bytes")), "{}", error(long));
    let doubled = format!("{{{{$x := .text}}}}{}", "{{$x = print $x $x}}".repeat(40));
    assert!(error(&doubled).contains("bytes"), "{}", error(&doubled));
    let costly = "{{range .list}}{{len (json $.text)}}{{end}}";
    assert!(error(costly).contains("more than 1000000 steps"), "{}", error(costly));
    let parsed = "{{range .list}}{{index (fromJson (json $.list)) 0}}{{end}}";
    assert!(error(parsed).contains("more than 1000000 steps"), "{}", error(parsed));
    let wide = r#"{{printf "%*d" 2000000000 1}}"#;
    assert!(error(wide).contains("larger than"), "{}", error(wide));
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    for nested in [
        format!("{}{}", "{{if .a}}".repeat(70), "{{end}}".repeat(70)),
        format!("{{{{{}1{}}}}}", "(".repeat(70), ")".repeat(70)),
        format!("{{{{if .a}}}}{}{{{{end}}}}", "{{else if .a}}".repeat(70)),
        "(".repeat(60_000),
    ] {
        let parsed = Template::parse(&format!("{{{{{nested}")).map(|_| ());
        let plain = Template::parse(&nested).map(|_| ());
        assert!(parsed.is_err());
        assert!(plain.is_err() || nested.starts_with("((("), "{nested}");
    }
    assert!(error(&"x".repeat(TEMPLATE_BYTES_MAX + 1)).contains("bytes"));
    let json = format!("{{{{fromJson `{}`}}}}", "[".repeat(500) + &"]".repeat(500));
    assert!(error(&json).contains("nested deeper than 128"), "{}", error(&json));
}

#[test]
fn errors_say_where_they_are() {
    for (text, expected) in [
        (
            "a\n {{.b.c-d}}",
            "line 2, column 8: `-` cannot be part of a name; write (index .object \"name-with-dash\") for such a name",
        ),
        ("{{if .a}}\n\nb", "line 1, column 5: `if` has no `{{end}}`"),
        ("{{.a", "line 1, column 5: the action is not closed"),
        ("{{nosuch .a}}", "line 1, column 3: there is no function `nosuch`"),
        ("{{end}}", "line 1, column 1: `end` without a beginning"),
        ("{{$x}}", "line 1, column 3: the variable `$x` is not defined"),
        ("x{{len 5}}", "line 1, column 4: `len`: a number has no length"),
        ("{{.text.sub}}", "line 1, column 3: a string has no member `sub`"),
        ("{{break}}", "line 1, column 3: `break` outside of `range`"),
        ("{{eq .text}}", "line 1, column 3: `eq` takes 2 or more arguments, not 1"),
        ("{{\"a", "line 1, column 3: the string is not closed"),
        ("{{/* a }}", "line 1, column 1: the comment is not closed"),
        ("{{5 .a}}", "line 1, column 3: only a function takes arguments"),
        ("{{.a \"b\"}}", "line 1, column 3: only a function takes arguments"),
        ("{{.a | 5}}", "line 1, column 8: a constant cannot follow `|`"),
        ("{{index .list 10000}}", "line 1, column 3: `index`: the index 10000 is outside of 0 to 9999"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}
