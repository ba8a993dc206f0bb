//! Scripts in Starlark: what ToolHive answers to them, and what is different here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use vmcp_json::Json;
use vmcp_script_worker::{FromWorker, Language, Outcome, Program, Request};

use super::support::{End, Ran, program, run_program};

/// Scripts with what ToolHive answers.
const CASES: &str = include_str!("starlark_cases.json");

#[derive(Deserialize)]
struct Case {
    id: String,
    script: String,
    data: Option<Value>,
    ok: bool,
    #[serde(default)]
    texts: Vec<String>,
}

/// The cases with another answer here: the value, or `None` for an error.
fn differences() -> BTreeMap<&'static str, (Option<Value>, &'static str)> {
    [
        ("empty", (Some(Value::Null), "a script without code does nothing")),
        ("comment-only", (Some(Value::Null), "a script without code does nothing")),
        ("triple", (Some(json!("a\n  b\nc")), "a string of several lines keeps its lines")),
        ("recursion", (Some(json!(120)), "functions may call themselves")),
        ("ret-bytes", (None, "there are no bytes")),
        ("plain", (Some(json!({"text": "just text"})), "as ToolHive with a real server")),
        ("numtext", (Some(json!({"text": "12345678901234567890"})), "as ToolHive with a real server")),
    ]
    .into()
}

/// The tools of the cases.
fn answer(request: &Request) -> Outcome {
    let Request::Call { name, arguments } = request else { panic!("{request:?}") };
    let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
    let result = match name.as_str() {
        "plain" => text("just text"),
        "numtext" => text("12345678901234567890"),
        "structured" => json!({"content": [], "structuredContent": {"a": 1, "b": [1.5, "x"]}}),
        "wrapped" => json!({"content": [], "structuredContent": {"result": [1, 2]}}),
        "iserror" => json!({"content": [{"type": "text", "text": "tool says no"}], "isError": true}),
        "empty" => json!({"content": []}),
        "goerror" => {
            return Outcome::Failure(vmcp_script_worker::Failure {
                message: "transport broke".to_owned(),
                ..Default::default()
            });
        }
        _ => {
            let echoed = format!("{{\"content\":[],\"structuredContent\":{}}}", arguments.as_str());
            return Outcome::Value(Json::parse(echoed).unwrap());
        }
    };
    Outcome::Value(Json::encode(&result).unwrap())
}

fn starlark(script: &str) -> Program {
    let tools = [
        "echo",
        "my-tool.v2",
        "9lives",
        "plain",
        "numtext",
        "structured",
        "wrapped",
        "iserror",
        "goerror",
        "empty",
        "slow",
    ];
    Program { language: Some(Language::Starlark), tools: tools.map(str::to_owned).into(), ..program(script) }
}

fn run(script: &str) -> Ran {
    run_program(&starlark(script), answer)
}

fn log(ran: &Ran) -> Vec<&str> {
    fn line(message: &FromWorker) -> &str {
        let FromWorker::Log { text } = message else { panic!("{message:?}") };
        text
    }
    ran.messages.iter().map(line).collect()
}

#[test]
fn scripts_have_the_values_that_they_have_in_toolhive() {
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    assert_eq!(cases.len(), 102);
    let mut differences = differences();
    let mut wrong = Vec::new();
    for case in cases {
        let data = case.data.as_ref().map_or_else(Json::empty_object, |data| Json::encode(data).unwrap());
        let ran = run_program(&Program { data, ..starlark(&case.script) }, answer);
        let theirs = case.ok.then(|| serde_json::from_str::<Value>(&case.texts[0]).unwrap());
        let expected = differences.remove(case.id.as_str()).map_or(theirs, |(value, _)| value);
        let found = match &ran.end {
            End::Value(value) => Some(value.clone()),
            End::Failed(_) => None,
            End::Died => panic!("{}", case.id),
        };
        if found != expected {
            wrong.push(format!("{}: {:?}, expected {expected:?}", case.id, ran.end));
        }
        if let Some(logged) = case.texts.get(1) {
            assert_eq!(format!("Script logs:\n{}", log(&ran).join("\n")), *logged, "{}", case.id);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn errors_have_the_place_in_the_script() {
    for (script, place, message) in [
        ("x = 1\nreturn x + \"a\"", (2, 8), "Operation `+` not supported"),
        ("return nosuch(1)", (1, 8), "nosuch"),
        ("x = (", (1, 1), ""),
        ("a = echo(n=1)\nb = iserror()", (2, 5), "tool says no"),
    ] {
        let End::Failed(error) = run(script).end else { panic!("{script}") };
        let found = (error.line.unwrap_or(0), error.column.unwrap_or(0));
        assert!(error.message.contains(message), "{script}: {error:?}");
        assert!(place.0 == found.0 || message.is_empty(), "{script}: {error:?}");
    }
    let End::Failed(error) = run("echo()\nreturn iserror()").end else { panic!() };
    assert_eq!((error.tool.as_deref(), error.request), (Some("iserror"), Some(2)));
}

#[test]
fn integers_of_64_bits_keep_their_digits() {
    let ran = run("r = echo(a=12345678901234567890, b=-9223372036854775808)\nreturn [r, r[\"a\"] + 1]");
    let End::Value(value) = ran.end else { panic!("{:?}", ran.end) };
    let expected = r#"[{"a":12345678901234567890,"b":-9223372036854775808},12345678901234567891]"#;
    assert_eq!(value.to_string(), expected);
}

#[test]
fn functions_of_parallel_call_at_once_and_print_once() {
    let script = "def f(i):
    print(\"first\", i)
    a = echo(i=i)[\"i\"]
    b = echo(i=a + 10)[\"i\"]
    print(\"then\", b)
    return b
return parallel([lambda i=i: f(i) for i in range(3)])";
    let ran = run(script);
    assert_eq!(ran.end, End::Value(json!([10, 11, 12])));
    assert_eq!(log(&ran), ["first 0", "then 10", "first 1", "then 11", "first 2", "then 12"]);
    // All first calls are sent before one of them is answered.
    let sent: Vec<String> = ran
        .requests
        .iter()
        .map(|request| {
            let Request::Call { arguments, .. } = request else { panic!("{request:?}") };
            arguments.as_str().to_owned()
        })
        .collect();
    assert_eq!(sent.len(), 6);
    assert!(sent[..3].iter().all(|arguments| arguments.len() == r#"{"i":0}"#.len()), "{sent:?}");
    // A function that changes what was there before is run once only.
    let script = "acc = []\ndef f(i):\n    acc.append(i)\n    return echo(i=i)[\"i\"]\nparallel([lambda: f(1), lambda: f(2)])\nreturn acc";
    assert_eq!(run(script).end, End::Value(json!([1, 2])));
    let nested = "return parallel([lambda: parallel([lambda: echo(i=1)[\"i\"], lambda: echo(i=2)[\"i\"]]), lambda: 3])";
    assert_eq!(run(nested).end, End::Value(json!([[1, 2], 3])));
    let failed = "return parallel([lambda: echo(i=1), lambda: iserror(), lambda: goerror()])";
    let End::Failed(error) = run(failed).end else { panic!() };
    assert_eq!(error.message, "parallel: task 1 failed: tool says no");
}

#[test]
fn the_language_is_found_out() {
    for (script, language, value) in [
        ("return len([7 // 2])", Language::Starlark, json!(1)),
        ("return 'ab'.repeat(2)", Language::JavaScript, json!("abab")),
        ("return [1, 2].length", Language::JavaScript, json!(2)),
        ("return {count: 3}", Language::JavaScript, json!({"count": 3})),
        ("return echo(a=1)", Language::Starlark, json!({"a": 1})),
        ("return (await tools.echo({a: 1})).a", Language::JavaScript, json!(1)),
        ("x = [i * 2 for i in range(3)]\nreturn x", Language::Starlark, json!([0, 2, 4])),
        ("", Language::JavaScript, Value::Null),
    ] {
        let ran = run_program(&Program { language: None, ..starlark(script) }, answer);
        assert_eq!(ran.end, End::Value(value), "{script}");
        assert!(
            matches!(&ran.messages[0], FromWorker::Language(found) if *found == language),
            "{script}: {:?}",
            ran.messages
        );
    }
}

/// Scripts in Starlark that end ToolHive's process, or never end there.
const HOSTILE: [(&str, &str); 12] = [
    ("a long text", "return len(\"a\" * 1000000000)"),
    ("doubling", "s = \"ab\"\nfor i in range(34):\n    s += s\nreturn len(s)"),
    ("a long list", "return len([0] * 500000000)"),
    ("a list of a range", "return len(list(range(300000000)))"),
    (
        "replacing",
        "s = \"a\" * 100000\nfor i in range(40):\n    s = s.replace(\"a\", \"aaaaaaaaaa\")\nreturn len(s)",
    ),
    ("a long result", "return \"a\" * 200000000"),
    ("squaring", "x = 3\nfor i in range(40):\n    x = x * x\nreturn 1"),
    ("a shift", "return 1 << 1000000000000"),
    ("recursion", "def f(n):\n    return f(n + 1)\nreturn f(0)"),
    ("a comprehension", "return len([i for i in range(1000000000)])"),
    ("calls", "for i in range(1000000):\n    echo(i=i)"),
    ("a value that contains itself", "a = []\na.append(a)\nreturn a"),
];

#[test]
fn hostile_scripts_end() {
    for (name, script) in HOSTILE {
        let mut worker = super::support::Worker::start(vmcp_script_worker::Sandbox::Required);
        worker.send(&vmcp_script_worker::ToWorker::Run(starlark(script)));
        let ran = worker.serve_for(std::time::Duration::from_secs(2), answer);
        assert!(!matches!(ran.end, End::Value(_)), "{name}: {:?}", ran.end);
        assert!(ran.peak_bytes < 600 << 20, "{name}: {} bytes", ran.peak_bytes);
    }
}
