use super::*;

fn find(arguments: &str) -> Result<String, UsageError> {
    read_find(Some(&Json::parse(arguments.to_owned()).unwrap())).map(|find| find.query)
}

fn call(arguments: &str) -> Result<(String, String), UsageError> {
    let json = Json::parse(arguments.to_owned()).unwrap();
    read_call(Some(&json)).map(|call| (call.name, call.arguments.as_str().to_owned()))
}

fn named(name: &str, arguments: &str) -> Result<(String, String), UsageError> {
    Ok((name.to_owned(), arguments.to_owned()))
}

#[test]
fn a_search_is_a_description_and_keywords() {
    assert_eq!(find(r#"{"tool_description":"send mail"}"#), Ok("send mail".to_owned()));
    assert_eq!(
        find(r#"{"tool_description":"send","tool_keywords":["mail","smtp"]}"#),
        Ok("send mail smtp".to_owned())
    );
    assert_eq!(find(r#"{"tool_description":"send","tool_keywords":null}"#), Ok("send".to_owned()));
}

#[test]
fn keywords_alone_or_as_one_text_are_understood() {
    assert_eq!(find(r#"{"tool_keywords":["mail"]}"#), Ok(" mail".to_owned()));
    assert_eq!(find(r#"{"tool_description":"x","tool_keywords":"mail smtp"}"#), Ok("x mail smtp".to_owned()));
}

#[test]
fn what_is_no_search_is_answered_with_the_form() {
    for arguments in [
        "{}",
        "[]",
        r#"{"tool_description":5}"#,
        r#"{"tool_description":"  "}"#,
        r#"{"tool_description":"x","tool_keywords":[1]}"#,
        r#"{"query":"x"}"#,
    ] {
        assert_eq!(find(arguments), Err(FIND_USAGE), "{arguments}");
    }
    assert_eq!(read_find(None), Err(FIND_USAGE));
}

#[test]
fn a_long_search_is_cut_between_characters() {
    let long = "é".repeat(QUERY_BYTES_MAX);
    let query = find(&format!(r#"{{"tool_description":"x{long}"}}"#)).unwrap();
    assert!(query.len() <= QUERY_BYTES_MAX && query.ends_with('é'));
}

#[test]
fn arguments_reach_the_tool_as_written() {
    assert_eq!(
        call(r#"{"tool_name":"t","parameters":{"b": 1.0,"a":[ ]}}"#),
        named("t", r#"{"b": 1.0,"a":[ ]}"#)
    );
    assert_eq!(call(r#"{"tool_name":"t","parameters":null}"#), named("t", "{}"));
    assert_eq!(call(r#"{"tool_name":"t"}"#), named("t", "{}"));
}

#[test]
fn a_tool_with_a_parameter_called_tool_name_keeps_it() {
    assert_eq!(
        call(r#"{"tool_name":"t","parameters":{"tool_name":"x"}}"#),
        named("t", r#"{"tool_name":"x"}"#)
    );
}

#[test]
fn a_name_among_the_parameters_is_taken_from_there() {
    assert_eq!(call(r#"{"parameters":{"tool_name":"t","a":1}}"#), named("t", r#"{"a":1}"#));
    assert_eq!(call(r#"{"parameters":{"tool_name":"t","parameters":{"a":1}}}"#), named("t", r#"{"a":1}"#));
    assert_eq!(
        call(r#"{"parameters":{"tool_name":"t","parameters":{"a":1},"b":2}}"#),
        named("t", r#"{"parameters":{"a":1},"b":2}"#)
    );
}

#[test]
fn parameters_written_as_text_are_understood() {
    assert_eq!(call(r#"{"tool_name":"t","parameters":"{\"a\":1}"}"#), named("t", r#"{"a":1}"#));
    assert_eq!(call(r#"{"tool_name":"t","parameters":"a=1"}"#), Err(PARAMETERS_USAGE));
    assert_eq!(call(r#"{"tool_name":"t","parameters":[1]}"#), Err(PARAMETERS_USAGE));
    let deep = format!(r#"{{\"a\":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    assert_eq!(call(&format!(r#"{{"tool_name":"t","parameters":"{deep}"}}"#)), Err(PARAMETERS_USAGE));
}

#[test]
fn what_is_no_call_is_answered_with_the_form() {
    for arguments in
        ["{}", "5", r#"{"tool_name":""}"#, r#"{"tool_name":7,"parameters":{}}"#, r#"{"parameters":{"a":1}}"#]
    {
        assert_eq!(call(arguments), Err(CALL_USAGE), "{arguments}");
    }
    assert_eq!(read_call(None), Err(CALL_USAGE));
}
