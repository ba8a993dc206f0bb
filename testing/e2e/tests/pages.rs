//! Pages for operators: the client listener serves them by caller, the admin listener serves all of them.

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::json;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::http;
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::{binary, fixture, run};

const SCRAPE_KEY: &str = "a-key-for-collectors";

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn configured(admin: &str) -> anyhow::Result<String> {
    let backend = Backend::stdio("echo", &fixture(&["echo"])?);
    let extra = format!(
        "admin: {{listen: \"{admin}\", scrapeKey: {SCRAPE_KEY}}}\n\
         rateLimiting: {{shared: {{maxTokens: 9, refillPeriod: 10000h}}}}\n"
    );
    let text = config(NamePolicy::Unchanged, &[backend], &extra);
    Ok(text.replace("incomingAuth: {type: anonymous}", "incomingAuth: {type: local}"))
}

#[test]
fn users_and_levels_are_on_the_admin_listener_only() -> anyhow::Result<()> {
    let port = free_port()?;
    let admin = format!("http://127.0.0.1:{port}");
    let gateway = Gateway::start(&configured(&format!("127.0.0.1:{port}"))?)?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    client.call("echo", json!({"text": "x"}))?;
    let clients = gateway.url.trim_end_matches("/mcp").to_owned();
    let proxied = ("x-forwarded-for", "203.0.113.9");
    let scraped = ("authorization", &*format!("Bearer {SCRAPE_KEY}"));
    for (page, direct, forwarded, with_key) in [
        ("/health", 200, 200, 200),
        ("/readyz", 200, 200, 200),
        ("/status", 200, 403, 200),
        ("/metrics", 200, 403, 200),
        ("/api/backends/health", 200, 403, 200),
        ("/limits", 403, 403, 403),
        ("/limits/echo", 403, 403, 403),
        ("/nothing", 404, 404, 404),
    ] {
        let status = |headers: &[(&str, &str)]| {
            Ok::<_, anyhow::Error>(http::get(&format!("{clients}{page}"), headers)?.status)
        };
        ensure!(status(&[])? == direct, "{page} directly");
        ensure!(status(&[proxied])? == forwarded, "{page} through a proxy");
        ensure!(status(&[proxied, scraped])? == with_key, "{page} with the scrape key");
        if page != "/nothing" {
            ensure!(http::get(&format!("{admin}{page}"), &[])?.status == 200, "{page} on the admin listener");
        }
    }
    let user = http::get(&format!("{admin}/limits"), &[])?.text()?;
    ensure!(user.contains("topCallers"), "{user}");
    ensure!(http::get(&format!("{admin}/mcp"), &[])?.status == 404, "no MCP on the admin listener");
    let checked = run(Command::new(binary("vmcp")?).args(["limits", "check", "echo", "--url", &admin]))?;
    ensure!(checked.contains("8 of 9"), "{checked}");
    Ok(())
}

#[test]
fn a_taken_admin_address_does_not_keep_a_gateway_from_serving() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let gateway = Gateway::start(&configured(&taken.local_addr()?.to_string())?)?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    client.call("echo", json!({"text": "x"}))?;
    let said = gateway.process.output();
    let warning = said.lines().find(|line| line.contains("admin listener cannot be opened"));
    ensure!(warning.context("a warning")?.contains("admin.listen"), "{said}");
    let off = Gateway::start(&configured("off")?)?;
    ensure!(!off.process.output().contains("admin listener cannot"), "{}", off.process.output());
    Ok(())
}
