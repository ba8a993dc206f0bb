//! Policies, limits and records apply to what a backend runs, even if the backend ignores letter case and
//! normalises addresses.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client, HttpClient, ProtocolFamily, StdioClient};
use vmcp_e2e::process::{binary, fixture};
use vmcp_e2e::wait;

/// `echo`, `open` and everything under `wiki` are permitted; everything named secret is not.
const POLICIES: &str = r#"
  authz:
    type: cedar
    policies:
      - 'permit(principal, action == Action::"call_tool", resource == Tool::"echo") unless { context has arg_path && context.arg_path != "/ok" };'
      - 'permit(principal, action == Action::"get_prompt", resource == Prompt::"open");'
      - 'permit(principal, action == Action::"read_resource", resource) when { resource.uri like "note://wiki/*" || resource.uri like "file:///wiki/*" || resource.uri like "https://corp.example/wiki/*" };'
      - 'forbid(principal, action, resource == Resource::"note://wiki/secret");'
      - 'forbid(principal, action, resource == Resource::"file:///wiki/secret");'
"#;
const LIMITS: &str = "rateLimiting:\n  tools:\n    - {name: echo, cost: 'size(args.text)', shared: {maxTokens: 30, refillPeriod: 10000h}}\n";

fn configured(folder: &Path, more: &str) -> anyhow::Result<String> {
    let backend = Backend::stdio("loose", &fixture(&["loose"])?);
    let audit = folder.join("audit.log");
    let extra =
        format!("audit: {{enabled: true, logFile: {}}}\n{more}", Value::from(audit.display().to_string()));
    let text = config(NamePolicy::Unchanged, &[backend], &extra);
    Ok(text.replace("incomingAuth: {type: anonymous}\n", &format!("incomingAuth:\n  type: local{POLICIES}")))
}

/// One client for each transport and protocol family, all of which send requests unchanged.
fn clients(gateway: &Gateway, file: &Path) -> anyhow::Result<Vec<(String, Box<dyn Client>)>> {
    let mut clients: Vec<(String, Box<dyn Client>)> = Vec::new();
    for family in ProtocolFamily::ALL {
        clients
            .push((format!("HTTP, {}", family.version()), Box::new(HttpClient::open(&gateway.url, family)?)));
        let mut command = Command::new(binary("vmcp")?);
        command.arg("stdio").arg("--config").arg(file);
        clients.push((
            format!("stdio, {}", family.version()),
            Box::new(StdioClient::start(&mut command, family)?),
        ));
    }
    Ok(clients)
}

/// Requests whose additional members a lenient backend would prefer over the checked ones.
fn smuggled(by_name: bool) -> Vec<(&'static str, Value)> {
    let call = |arguments: Value| match by_name {
        false => json!({"name": "echo", "arguments": arguments}),
        true => json!({"name": "call_tool", "arguments": {"tool_name": "echo", "parameters": arguments}}),
    };
    let with = |mut request: Value, name: &str, value: Value| {
        request[name] = value;
        request
    };
    let plain = json!({"text": "x", "path": "/ok"});
    let mut requests = vec![
        ("tools/call", call(json!({"text": "x", "path": "/ok", "Path": "/etc"}))),
        ("tools/call", call(json!({"text": "x", "PATH": "/etc"}))),
        ("tools/call", call(json!({"text": "x", "TEXT": "many letters"}))),
    ];
    for name in ["Name", "NAME", "nAme"] {
        requests.push(("tools/call", with(call(plain.clone()), name, "secret".into())));
    }
    for name in ["Arguments", "argument\u{17f}", "ARGUMENTS"] {
        requests.push(("tools/call", with(call(plain.clone()), name, json!({"path": "/etc"}))));
    }
    if !by_name {
        let read = json!({"uri": "note://wiki/pub"});
        requests.push(("resources/read", with(read.clone(), "URI", "note://wiki/secret".into())));
        requests.push(("resources/read", with(read, "ur\u{131}", "note://wiki/secret".into())));
        requests.push(("prompts/get", json!({"name": "open", "Name": "closed"})));
        let reference = json!({"type": "ref/prompt", "name": "open", "Name": "closed"});
        let argument = json!({"name": "a", "value": ""});
        requests.push(("completion/complete", json!({"ref": reference, "argument": argument})));
        let reference = json!({"type": "ref/prompt", "name": "open"});
        let other = json!({"type": "ref/prompt", "name": "closed"});
        requests.push(("completion/complete", json!({"ref": reference, "Ref": other, "argument": argument})));
    }
    requests
}

#[test]
fn no_letter_case_leads_past_policies_prices_and_records() -> anyhow::Result<()> {
    for by_name in [false, true] {
        let more = if by_name { "optimizer: {embeddingProvider: none}\n" } else { "" };
        let folder = tempfile::tempdir()?;
        let text = configured(folder.path(), &format!("{LIMITS}{more}"))?;
        let file = folder.path().join("vmcp.yaml");
        std::fs::write(&file, &text)?;
        let gateway = Gateway::start(&text)?;
        // The clients must live until the records are written: dropping a stdio client ends its process.
        let mut clients = clients(&gateway, &file)?;
        for (client_name, client) in &mut clients {
            for (method, params) in smuggled(by_name) {
                let answer = client.ask(method, params.clone())?.text;
                let ran = ["ran ", "SECRET", "PUBLIC", "got ", "completed "]
                    .iter()
                    .any(|word| answer.contains(word));
                ensure!(!ran, "{client_name}: {method} {params}: {answer}");
            }
            let echo = json!({"text": "xy", "path": "/ok"});
            let (name, arguments) = match by_name {
                false => ("echo", echo),
                true => ("call_tool", json!({"tool_name": "echo", "parameters": echo})),
            };
            let answer = client.ask("tools/call", json!({"name": name, "arguments": arguments}))?.text;
            ensure!(answer.contains("ran echo with /ok"), "{client_name}: what is meant runs: {answer}");
        }
        // No refused request may be recorded as a successful call: four clients have made one call each.
        let ran = || -> anyhow::Result<Vec<String>> {
            let records = std::fs::read_to_string(folder.path().join("audit.log"))?;
            let ran =
                records.lines().filter(|line| line.contains("\"success\"") && line.contains("mcp_tool_call"));
            Ok(ran.map(str::to_owned).collect())
        };
        wait::until("the calls are recorded", || ran().ok().filter(|ran| ran.len() >= 4))?;
        let ran = ran()?;
        ensure!(ran.len() == 4 && ran.iter().all(|line| !line.contains("secret")), "{ran:#?}");
    }
    Ok(())
}

/// Other spellings of an address, made by rules that servers reverse.
fn spellings(address: &str, seed: u64) -> Vec<String> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut state = seed;
    let mut roll = |sides: u64| {
        // A step of splitmix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) % sides
    };
    let mut made = Vec::new();
    for _ in 0..60 {
        let scheme = if roll(4) == 0 { scheme.to_uppercase() } else { scheme.to_owned() };
        let host = if roll(4) == 0 { host.to_uppercase() } else { host.to_owned() };
        let mut parts: Vec<String> = Vec::new();
        for part in path.split('/') {
            match roll(8) {
                0 => parts.extend(["x".to_owned(), "..".to_owned()]),
                1 => parts.push(".".to_owned()),
                2 => parts.extend(["x".to_owned(), "%2e%2E".to_owned()]),
                3 => parts.push("%2e".to_owned()),
                4 => parts.push(String::new()),
                _ => {}
            }
            let mut letters = String::new();
            for c in part.chars() {
                letters += &match roll(10) {
                    0 => format!("%{:02x}", u32::from(c)),
                    1 => format!("%{:02X}", u32::from(c)),
                    2 => format!("{c}\t"),
                    _ => c.to_string(),
                };
            }
            parts.push(if roll(3) == 0 { letters } else { part.to_owned() });
        }
        let separator = if roll(6) == 0 { "\\" } else { "/" };
        let tail = ["", "", "#", "?", " ", "\n", "#x", "/"][roll(8) as usize];
        made.push(format!("{scheme}://{host}/{}{tail}", parts.join(separator)));
    }
    made
}

#[test]
fn no_spelling_of_an_address_leads_past_policies_and_records() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let text = configured(folder.path(), "")?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, &text)?;
    let gateway = Gateway::start(&text)?;
    // The clients must live until the records are written: dropping a stdio client ends its process.
    let mut clients = clients(&gateway, &file)?;
    for (seed, (client_name, client)) in (1..).zip(&mut clients) {
        // Over HTTP, an address with control characters does not fit into the header `Mcp-Name`. That counts
        // as no answer.
        let mut read = |uri: &str| {
            let answer = client.ask("resources/read", json!({"uri": uri}));
            answer.map_or_else(|error| error.to_string(), |answer| answer.text)
        };
        for forbidden in ["note://wiki/secret", "file:///wiki/secret", "https://corp.example/hr/salaries"] {
            for uri in std::iter::once(forbidden.to_owned()).chain(spellings(forbidden, seed)) {
                let answer = read(&uri);
                ensure!(!answer.contains("SECRET"), "{client_name}: {uri:?}: {answer}");
            }
            // A path that begins below a permitted one, as an attacker would write it.
            for uri in
                ["https://corp.example/wiki/../hr/salaries", "https://corp.example/wiki/%2e%2e/hr/salaries"]
            {
                ensure!(!read(uri).contains("SECRET"), "{client_name}: {uri}");
            }
        }
        for uri in ["note://wiki/pub", "NOTE://wiki/x/../%70ub", "https://CORP.example:443/wiki/./start"] {
            let answer = read(uri);
            ensure!(
                answer.contains("PUBLIC"),
                "{client_name}: a permitted address has many spellings: {uri}: {answer}"
            );
        }
    }
    let read = || -> anyhow::Result<Vec<Value>> {
        let records = std::fs::read_to_string(folder.path().join("audit.log"))?;
        let records = records.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(records
            .filter(|record| record["type"] == "mcp_resource_read" && record["outcome"] == "success")
            .collect())
    };
    // Four clients have read three permitted spellings of two addresses each.
    wait::until("the reads are recorded", || read().ok().filter(|read| read.len() >= 12))?;
    let read = read()?;
    ensure!(read.len() == 12, "{read:#?}");
    for record in &read {
        let name = record["target"]["name"].as_str().unwrap_or_default();
        ensure!(["note://wiki/pub", "https://corp.example/wiki/start"].contains(&name), "{record:#}");
    }
    Ok(())
}
