use super::*;

const NAMES: &[&str] = &["args", "cost"];

fn evaluate(text: &str, args: &str) -> Result<ExpressionValue, String> {
    let args: serde_json::Value = serde_json::from_str(args).unwrap();
    let expression = Expression::compile(text, NAMES, LoopScope::OwnItems)?;
    expression.evaluate([("args", Data::from(args)), ("cost", Data::from(3))])
}

#[test]
fn numbers_come_out_as_they_are() {
    for (text, args, outcome) in [
        ("1 + size(args.items)", r#"{"items":[1,2]}"#, ExpressionValue::Int(3)),
        ("has(args.limit) ? args.limit : 10", "{}", ExpressionValue::Int(10)),
        ("has(args.limit) ? args.limit : 10", r#"{"limit":7}"#, ExpressionValue::Int(7)),
        ("double(size(args.text)) / 4.0", r#"{"text":"hello"}"#, ExpressionValue::Float(1.25)),
        ("args.big", r#"{"big":18446744073709551615}"#, ExpressionValue::Int(u64::MAX.into())),
        ("cost * 2", "{}", ExpressionValue::Int(6)),
        ("args.deep", r#"{"deep":true}"#, ExpressionValue::Bool(true)),
        ("args", "{}", ExpressionValue::Other),
    ] {
        assert_eq!(evaluate(text, args), Ok(outcome), "{text} over {args}");
    }
}

#[test]
fn what_cannot_be_computed_says_why() {
    for (text, args) in [
        ("args.limit + 1", "{}"),
        ("args.limit + 1", r#"{"limit":"many"}"#),
        ("1 / args.zero", r#"{"zero":0}"#),
        ("args.big + 1", r#"{"big":9223372036854775807}"#),
        ("-args.low", r#"{"low":-9223372036854775808}"#),
    ] {
        assert!(evaluate(text, args).is_err(), "{text} over {args}");
    }
}

#[test]
fn only_the_variables_that_are_there_are_known() {
    let error = Expression::compile("argument.x + 1", NAMES, LoopScope::OwnItems).unwrap_err();
    assert_eq!(error, "asks for argument; there is only args, cost");
    let expression = Expression::compile("size(args.list) + 1", NAMES, LoopScope::OwnItems).unwrap();
    assert!(expression.uses_variable("args") && !expression.uses_variable("cost"));
    assert!(expression.uses_member("args", "list") && !expression.uses_member("args", "text"));
    let whole =
        Expression::compile("has(args.a) && args[\"b\"] == 1 ? 1 : 2", NAMES, LoopScope::OwnItems).unwrap();
    assert!(whole.uses_member("args", "c"), "it may ask for anything");
}

#[test]
fn loops_look_at_what_they_go_through() {
    for text in [
        "args.ids.all(i, i in args.allowed) ? 1 : 2",
        "args.ids.exists(i, args.text.contains(i)) ? 1 : 2",
        "args.ids.all(i, size(args.text) > i) ? 1 : 2",
    ] {
        let error = Expression::compile(text, NAMES, LoopScope::OwnItems).unwrap_err();
        assert!(error.contains("inside a loop"), "{text}: {error}");
        Expression::compile(text, NAMES, LoopScope::AnyVariable).unwrap();
    }
    assert_eq!(evaluate("args.ids.all(i, i > 1) ? 1 : 2", r#"{"ids":[2,3]}"#), Ok(ExpressionValue::Int(1)));
    assert_eq!(
        evaluate("args.lists.exists(l, size(l) > 1) ? 1 : 2", r#"{"lists":[[2,3]]}"#),
        Ok(ExpressionValue::Int(1))
    );
}
