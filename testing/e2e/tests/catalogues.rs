//! Large recorded catalogues through the gateway: every field of every definition arrives byte for byte in
//! the backend's spelling, except the name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use vmcp_e2e::cache;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, text_of};
use vmcp_e2e::process::{Process, fixture};

/// A definition in its original spelling: the raw text of each member.
type Definition = BTreeMap<String, Box<RawValue>>;

#[derive(Deserialize)]
struct Page {
    tools: Vec<Definition>,
    #[serde(rename = "nextCursor")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    result: Page,
}

fn name_of(definition: &Definition) -> anyhow::Result<String> {
    let name = definition.get("name").context("a definition has a name")?;
    Ok(serde_json::from_str(name.get())?)
}

/// The catalogue files by their names.
fn recorded() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(cache::project_file("catalogues"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, path));
        }
    }
    found.sort();
    ensure!(found.len() >= 10, "the catalogues are gone: {found:?}");
    Ok(found)
}

/// Everything that the gateway lists, page by page, in its original spelling.
fn listed(client: &mut HttpClient) -> anyhow::Result<BTreeMap<String, Definition>> {
    let mut all = BTreeMap::new();
    let mut params = json!({});
    loop {
        let answer = client.ask("tools/list", params)?;
        let page: Listed = serde_json::from_str(&answer.text).with_context(|| answer.text.clone())?;
        for definition in page.result.tools {
            let name = name_of(&definition)?;
            ensure!(all.insert(name.clone(), definition).is_none(), "{name} is listed twice");
        }
        match page.result.next {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => return Ok(all),
        }
    }
}

fn everything_arrives(backends: &[Backend], catalogues: &[(String, PathBuf)]) -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(NamePolicy::Prefixed, backends, ""))?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let arrived = listed(&mut client)?;
        let mut expected = 0;
        for (backend, file) in catalogues {
            let catalogue: Page = serde_json::from_str(&std::fs::read_to_string(file)?)?;
            for definition in &catalogue.tools {
                expected += 1;
                let name = format!("{backend}_{}", name_of(definition)?);
                let found =
                    arrived.get(&name).with_context(|| format!("{family:?}: {name} is not listed"))?;
                same_but_for_the_name(&name, definition, found)?;
            }
        }
        ensure!(
            arrived.len() == expected,
            "{family:?}: {} tools arrive, {expected} are there",
            arrived.len()
        );
    }
    Ok(())
}

fn same_but_for_the_name(name: &str, sent: &Definition, arrived: &Definition) -> anyhow::Result<()> {
    let fields = |definition: &Definition| definition.keys().cloned().collect::<Vec<_>>();
    ensure!(fields(sent) == fields(arrived), "{name}: {:?} became {:?}", fields(sent), fields(arrived));
    for (field, text) in sent {
        let found = arrived.get(field).map_or("", |found| found.get());
        ensure!(field == "name" || text.get() == found, "{name}.{field}: {text} became {found}");
    }
    Ok(())
}

#[test]
fn every_byte_of_every_definition_arrives_over_stdio() -> anyhow::Result<()> {
    let catalogues = recorded()?;
    let mut backends = Vec::new();
    for (name, file) in &catalogues {
        let mut command = fixture(&["replay", "--catalogue"])?;
        backends.push(Backend::stdio(name, command.arg(file)));
    }
    everything_arrives(&backends, &catalogues)
}

#[test]
fn every_byte_of_every_definition_arrives_over_http_in_pages() -> anyhow::Result<()> {
    let catalogues = recorded()?;
    let mut backends = Vec::new();
    let mut running = Vec::new();
    for (number, (name, file)) in (0..).zip(&catalogues) {
        let family = if number % 2 == 0 { ProtocolFamily::Sessions } else { ProtocolFamily::Stateless };
        let mut command =
            fixture(&["replay", "--transport", "http", "--protocol", family.version(), "--page-size", "7"])?;
        let mut process = Process::start(command.arg("--catalogue").arg(file))?;
        backends.push(Backend::http(name, process.wait_for_url()?));
        running.push(process);
    }
    everything_arrives(&backends, &catalogues)
}

#[test]
fn arguments_arrive_as_they_are_spelled() -> anyhow::Result<()> {
    let catalogues = recorded()?;
    let (name, file) = catalogues.iter().find(|(name, _)| name == "time").context("the catalogue `time`")?;
    let mut command = fixture(&["replay", "--catalogue"])?;
    let backends = [Backend::stdio(name, command.arg(file))];
    let gateway = Gateway::start(&config(NamePolicy::Prefixed, &backends, ""))?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let arguments = json!({"zebra": 1, "apple": [1.50, 10_000_000_000_000_000_u64], "text": "é \u{1F600} \"quoted\""});
        let result = client.call("time_convert_time", arguments.clone())?;
        let echoed = text_of(&result);
        let expected = format!(r#"{{"name":"convert_time","arguments":{arguments}}}"#);
        ensure!(echoed == expected, "{family:?}: {echoed} is not {expected}");
    }
    Ok(())
}
