//! What a script can do, and what it gets.

use serde_json::{Value, json};
use vmcp_json::Json;
use vmcp_script_worker::{FromWorker, Outcome, Program, Request};

use super::support::{End, program, run, run_program};

fn value(script: &str) -> Value {
    let end = run(script).end;
    let End::Value(value) = end else { panic!("{script}: {end:?}") };
    value
}

/// The name and the message of the error, and its position.
fn error(script: &str) -> (String, Option<(u32, u32)>) {
    let end = run(script).end;
    let End::Failed(error) = end else { panic!("{script}: {end:?}") };
    (format!("{}: {}", error.name, error.message), error.line.zip(error.column))
}

#[test]
fn a_script_has_the_value_that_it_returns_or_ends_with() {
    for (script, expected) in [
        ("return 1 + 1", json!(2)),
        ("1 + 1", json!(2)),
        ("const a = [1, 2];\na.map((n) => n * 2)", json!([2, 4])),
        ("async () => { return await tools.echo({n: 1}) }", json!({"n": 1})),
        ("```js\nreturn {ok: true}\n```", json!({"ok": true})),
        ("for (const n of [1, 2]) { if (n === 2) return n }", json!(2)),
        ("await tools.echo({a: 'b'})", json!({"a": "b"})),
        ("", Value::Null),
        ("// nothing", Value::Null),
        ("let x", Value::Null),
        (
            "({a: undefined, b: [undefined], c: null, d: new Date(0), e: /x/g, f: new Error('no'), g: new Uint8Array(2)})",
            json!({"b": [null], "c": null, "d": "1970-01-01T00:00:00.000Z", "e": "/x/g", "f": {"name": "Error", "message": "no"}, "g": [0, 0]}),
        ),
        ("JSON.stringify = () => 'mine'; return {a: 1}", json!({"a": 1})),
    ] {
        assert_eq!(value(script), expected, "{script}");
    }
}

#[test]
fn a_check_compiles_and_runs_nothing() {
    let checked = |script: &str| {
        let program = Program { check_only: true, ..program(script) };
        run_program(&program, super::support::answer).end
    };
    for script in [
        "}); throw new Error('ran'); (async () => {",
        "} throw new Error('ran'); {",
        "} static { f() } async n() {",
    ] {
        for end in [checked(script), run(script).end] {
            let End::Failed(error) = end else { panic!("{script}: {end:?}") };
            assert_eq!(error.name, "SyntaxError", "{script}: {error:?}");
        }
    }
    // The first is no block, the second is not strict.
    for script in ["function f() {}\nvar f = 1", "return 010", "// ends in a comment"] {
        assert!(matches!(checked(script), End::Value(_)), "{script}: {:?}", checked(script));
    }
    assert!(error("return [").0.contains("ends too early"));
}

#[test]
fn half_a_character_is_replaced_and_ends_nothing() {
    for (script, expected) in [
        ("return 'a\\ud800'", json!("a\u{fffd}")),
        ("return {['a\\ud800']: 1, ['b\\0c']: 2}", json!({"a\u{fffd}": 1, "b\0c": 2})),
        ("const r = await tools.echo({['\\udc00']: '\\ud800'}); return r", json!({"\u{fffd}": "\u{fffd}"})),
        ("console.log('\\ud800'); console.log({['\\ud800']: 1}); return 1", json!(1)),
        (
            "try { await callTool('\\ud800') } catch (error) { return error.message }",
            json!("no tool \"\u{fffd}\""),
        ),
    ] {
        assert_eq!(value(script), expected, "{script}");
    }
    assert_eq!(error("throw new Error('a\\ud800')").0, "Error: a\u{fffd}");
}

#[test]
fn a_member_named_proto_is_a_member() {
    let script = "const r = await tools.echo({['__proto__']: {admin: 1}}); return [r.admin, r]";
    assert_eq!(value(script).to_string(), r#"[null,{"__proto__":{"admin":1}}]"#);
}

#[test]
fn a_value_that_is_thrown_is_shown() {
    assert_eq!(error("throw {code: 5}").0, r#"Error: the script threw {"code":5}"#);
    assert_eq!(error("throw 1").0, "Error: the script threw 1");
}

#[test]
fn content_items_have_what_clients_need() {
    for item in ["{type: 'constructor'}", "{type: 'resource'}", "{type: 'resource', resource: {uri: 'a:b'}}"]
    {
        assert!(error(&format!("emit({item})")).0.starts_with("TypeError: "), "{item}");
    }
    assert_eq!(value("emit({type: 'resource', resource: {uri: 'a:b', text: ''}}); return 1"), json!(1));
}

#[test]
fn integers_keep_their_digits() {
    let echoed = |script: &str| value(script).to_string();
    assert_eq!(echoed("await tools.echo({n: 9007199254740993n})"), r#"{"n":9007199254740993}"#);
    assert_eq!(
        echoed("const r = await tools.echo({n: 12345678901234567890n}); return r.n + 1n"),
        "12345678901234567891"
    );
    assert_eq!(
        echoed("return [0.1, 1e21, 5e-7, -0, 9007199254740991]"),
        "[0.1,1e+21,5e-7,0,9007199254740991]"
    );
}

#[test]
fn tools_are_called_by_name_and_identifier() {
    let calls = |script: &str| -> Vec<String> {
        let ran = run(script);
        assert!(matches!(ran.end, End::Value(_)), "{script}: {:?}", ran.end);
        let call = |request: &Request| {
            let Request::Call { name, arguments } = request else { panic!("{request:?}") };
            format!("{name} {}", arguments.as_str())
        };
        ran.requests.iter().map(call).collect()
    };
    assert_eq!(calls("await tools['odd-name']({a: 1})"), [r#"odd-name {"a":1}"#]);
    assert_eq!(calls("await tools.odd_name()"), ["odd-name {}"]);
    assert_eq!(calls("await tools._2nd({})"), ["2nd {}"]);
    assert_eq!(calls("await callTool('echo', {a: [1, {b: null}]})"), [r#"echo {"a":[1,{"b":null}]}"#]);
    assert_eq!(
        calls("await Promise.all([1, 2].map((n) => tools.echo({n})))"),
        [r#"echo {"n":1}"#, r#"echo {"n":2}"#]
    );
    let clashing = Program { tools: ["a-b", "a.b"].map(str::to_owned).into(), ..program("tools.a_b") };
    let End::Failed(error) = run_program(&clashing, super::support::answer).end else { panic!() };
    assert_eq!(error.message, r#""a-b" and "a.b" are both called a_b; use tools["a-b"]"#);
}

#[test]
fn results_are_values() {
    fn answer(request: &Request) -> Outcome {
        let Request::Call { arguments, .. } = request else { panic!("{request:?}") };
        Outcome::Value(arguments.members().unwrap().get("reply").unwrap().clone())
    }
    for (reply, expected) in [
        (r#"{"structuredContent":{"result":[1]},"content":[]}"#, json!([1])),
        (r#"{"structuredContent":{"result":1,"b":2}}"#, json!({"result": 1, "b": 2})),
        (r#"{"content":[{"type":"text","text":"plain"}]}"#, json!("plain")),
        (r#"{"content":[{"type":"text","text":"{\"a\":1}"}]}"#, json!({"a": 1})),
        (r#"{"content":[{"type":"text","text":" 12 "}]}"#, json!(12)),
        (r#"{"content":[{"type":"text","text":"{broken"}]}"#, json!("{broken")),
        (
            r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
            json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ),
    ] {
        let script = format!("await tools.echo({{reply: {reply}}})");
        let End::Value(value) = run_program(&program(&script), answer).end else { panic!("{reply}") };
        assert_eq!(value, expected, "{reply}");
    }
    let failed = r#"try { await tools.echo({reply: {isError: true, content: [{type: "text", text: "no"}]}}) }
        catch (e) { return [e instanceof ToolError, e.name, e.message, e.tool, e.result.isError] }"#;
    let End::Value(value) = run_program(&program(failed), answer).end else { panic!() };
    assert_eq!(value, json!([true, "ToolError", "no", "echo", true]));
    let raw = r#"(await callToolRaw("echo", {reply: {isError: true, content: []}})).isError"#;
    assert_eq!(run_program(&program(raw), answer).end, End::Value(json!(true)));
}

#[test]
fn errors_say_where() {
    for (script, expected, place) in [
        ("const a = 1;\n  a.b.c", "TypeError: cannot read property 'c' of undefined", Some((2, 3))),
        ("return nosuch", "ReferenceError: nosuch is not defined", Some((1, 8))),
        ("let x = ;", "SyntaxError: unexpected token in expression: ';'", Some((1, 9))),
        ("throw new RangeError('mine')", "RangeError: mine", Some((1, 11))),
        ("throw 'text'", "Error: text", None),
        ("tools.ecko({})", r#"Error: no tool "ecko"; did you mean "echo"?"#, Some((1, 1))),
        ("await callTool('nothing like it')", r#"Error: no tool "nothing like it""#, None),
        ("tools.echo(1)", "TypeError: the arguments of a tool must be an object", None),
        ("tools.echo = 1", "TypeError: tools cannot be changed", None),
        ("return {a: [() => 1]}", "Error: the value cannot be returned: value.a[0] is a function", None),
        (
            "return {a: NaN}",
            "Error: the value cannot be returned: value.a is NaN, which JSON does not have",
            None,
        ),
        (
            "return new Map()",
            "Error: the value cannot be returned: value is a Map; write Object.fromEntries(map)",
            None,
        ),
        (
            "const a = []; a[0] = a; return a",
            "Error: the value cannot be returned: it is nested deeper than 200 levels, or contains itself",
            None,
        ),
        (
            "return {toJSON() { return this }}",
            "Error: the value cannot be returned: value.toJSON is a function",
            None,
        ),
        (
            "return 'x'.repeat(300000)",
            "Error: the value cannot be returned: it is longer than 262144 bytes of JSON",
            None,
        ),
        ("await new Promise(() => {})", "Error: the script waits for something that never comes", None),
        (
            "return tools.echo({f() {}})",
            "TypeError: the arguments cannot be sent: value.f is a function",
            None,
        ),
    ] {
        let (text, found) = error(script);
        assert_eq!(text, expected, "{script}");
        if let Some(place) = place {
            assert_eq!(found, Some(place), "{script}");
        }
    }
}

#[test]
fn a_failed_call_can_be_caught() {
    let caught =
        "try { await tools.fail() } catch (e) { return [e.name, e.message, e.tool, e.code, e.retryAfterMs] }";
    assert_eq!(value(caught), json!(["ToolError", "the limit refuses", "fail", 429, 1500]));
    let End::Failed(error) = run("await tools.echo();\nawait tools.fail()").end else { panic!() };
    assert_eq!((error.tool.as_deref(), error.request), (Some("fail"), Some(2)));
    assert_eq!((error.line, error.column), (Some(2), Some(13)), "the place of the call");
}

#[test]
fn a_script_asks_finds_logs_and_reports() {
    let ran = run(
        "console.log('one', {a: 1}, () => 1); progress('half', 1, 2); emit({type: 'text', text: 'x'}); await sleep(5);
         progress('no numbers'); await findTools('all');
         for (const item of [{}, {type: 'image', data: 'x'}, {type: 'text'}]) { try { emit(item); throw 'accepted' } catch (e) { if (e === 'accepted') throw e } }
         return [await ask('Go on?', {type: 'object'}), await findTools('echo', 3), await describeTool('echo')]",
    );
    let expected = json!([{"action": "accept", "content": {"ok": true}}, [{"name": "echo"}], "echo"]);
    assert_eq!(ran.end, End::Value(expected));
    let [
        FromWorker::Log { text },
        FromWorker::Progress { message, done, total },
        FromWorker::Emit { item },
        FromWorker::Progress { done: None, total: None, .. },
    ] = ran.messages.as_slice()
    else {
        panic!("{:?}", ran.messages)
    };
    assert_eq!(text, "one {\"a\":1} (value is a function)");
    assert_eq!((message.as_str(), *done, *total), ("half", Some(1.0), Some(2.0)));
    assert_eq!(item.as_str(), r#"{"type":"text","text":"x"}"#);
    let logged: usize = run("for (let i = 0; i < 5000; i++) console.log('a line of text')")
        .messages
        .iter()
        .map(|message| {
            let FromWorker::Log { text } = message else { panic!("{message:?}") };
            text.len()
        })
        .sum();
    assert!((900..=1024).contains(&logged), "{logged} bytes were logged, at most 1024");
}

#[test]
fn data_is_there_by_name() {
    let data = Json::parse(r#"{"who":"Ann","tools":1,"odd-key":2,"big":9007199254740993}"#).unwrap();
    let script = "return [who, typeof tools, data['odd-key'], data.tools, typeof big]";
    let ran = run_program(&Program { data, ..program(script) }, super::support::answer);
    assert_eq!(ran.end, End::Value(json!(["Ann", "object", 2, 1, "bigint"])));
}

#[test]
fn a_check_runs_nothing() {
    let check = |script: &str| {
        let ran = run_program(&Program { check_only: true, ..program(script) }, super::support::answer);
        assert!(ran.requests.is_empty());
        ran.end
    };
    assert_eq!(check("await tools.echo({}); return 1"), End::Value(json!({})));
    assert!(matches!(check("return return"), End::Failed(error) if error.name == "SyntaxError"));
}
