//! The command line as a person meets it: where it finds its configuration, and what `vmcp doctor` reports.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use vmcp_e2e::gateway::{Backend, NamePolicy, config};
use vmcp_e2e::process::{binary, fixture};

/// Runs `vmcp` in `folder`, which is also the user's home.
fn vmcp(folder: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(binary("vmcp")?);
    command.args(arguments).current_dir(folder).env("HOME", folder);
    for variable in ["VMCP_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"] {
        command.env_remove(variable);
    }
    Ok(command.output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_configuration_is_found_and_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let none = vmcp(folder.path(), &["validate"])?;
    ensure!(none.status.code() == Some(2), "{none:?}");
    ensure!(text(&none.stderr).contains("there is no ./vmcp.yaml and no "), "{none:?}");
    let user = folder.path().join(".config/vmcp");
    std::fs::create_dir_all(&user)?;
    std::fs::write(user.join("vmcp.yaml"), "name: of-the-user\nbackends: []\n")?;
    let found = vmcp(folder.path(), &["validate"])?;
    ensure!(text(&found.stderr).contains("vmcp: using ") && text(&found.stderr).contains("ok: of-the-user"));
    std::fs::write(folder.path().join("vmcp.yaml"), "name: of-the-folder\nbackends: []\n")?;
    let found = vmcp(folder.path(), &["validate"])?;
    ensure!(text(&found.stderr).contains("vmcp: using ./vmcp.yaml\n"), "{found:?}");
    ensure!(text(&found.stderr).contains("ok: of-the-folder"), "{found:?}");
    let named = vmcp(folder.path(), &["validate", "-c", "vmcp.yaml"])?;
    ensure!(!text(&named.stderr).contains("vmcp: using "), "{named:?}");
    Ok(())
}

#[test]
fn doctor_reports_each_check_without_secrets() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broken = Command::new("nosuch-server");
    broken.arg("--token=first-secret").env("TOKEN", "second-secret");
    let mut ends = Command::new("/bin/sh");
    ends.args(["-c", "exit 1", "--token=fifth-secret"]);
    let backends = [
        Backend::stdio("works", &fixture(&["echo"])?),
        Backend::stdio("broken", &broken),
        Backend::http("gone", "http://127.0.0.1:9/mcp?key=third-secret")
            .with("headers: {Authorization: Bearer fourth-secret}"),
        Backend::stdio("ends", &ends),
        Backend::http("keyed", "http://127.0.0.1:9/s/sixth-secret-that-is-long/mcp"),
    ];
    let listen = "listen: {port: 0}\nadmin: {listen: 'off'}\n";
    std::fs::write(folder.path().join("vmcp.yaml"), config(NamePolicy::Prefixed, &backends, listen))?;
    let output = vmcp(folder.path(), &["doctor", "--json"])?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(!text(&output.stdout).contains("secret") && !text(&output.stderr).contains("secret"));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["failed"] == 4, "{report:#}");
    let sections = report["sections"].as_array().context("sections")?;
    let servers = sections.iter().find(|section| section["title"] == "Servers").context("servers")?;
    let results = servers["results"].as_array().context("results")?;
    let found: Vec<_> =
        results.iter().map(|result| (result["status"].as_str(), result["code"].as_str())).collect();
    ensure!(
        found
            == [
                (Some("ok"), None),
                (Some("fail"), Some("server-program")),
                (Some("fail"), Some("server-not-listening")),
                (Some("fail"), Some("server-ended")),
                (Some("fail"), Some("server-not-listening"))
            ],
        "{results:#?}"
    );
    // Each code of the report has a page.
    for code in ["server-program", "server-not-listening"] {
        let page = vmcp(folder.path(), &["explain", code])?;
        ensure!(page.status.success() && text(&page.stdout).starts_with(code), "{page:?}");
    }
    let unknown = vmcp(folder.path(), &["explain", "server-programm"])?;
    ensure!(text(&unknown.stderr).contains("did you mean `server-program`?"), "{unknown:?}");
    Ok(())
}

#[test]
fn tools_are_a_table_for_people_and_rows_for_programs() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let backends = [Backend::stdio("one", &fixture(&["echo"])?)];
    std::fs::write(folder.path().join("vmcp.yaml"), config(NamePolicy::Prefixed, &backends, ""))?;
    let output = vmcp(folder.path(), &["tools"])?;
    let rows = text(&output.stdout);
    let first = rows.lines().next().context("no row")?;
    ensure!(
        first.starts_with("one_echo") && first.contains("  one/echo") && first.contains("  Answers with"),
        "{rows}"
    );
    ensure!(!rows.contains("DESCRIPTION") && !rows.contains('\u{1b}'), "{rows}");
    let missing = vmcp(folder.path(), &["call", "one_ecko"])?;
    ensure!(text(&missing.stderr).contains("did you mean `one_echo`?"), "{missing:?}");
    let missing = vmcp(folder.path(), &["call", "weather"])?;
    ensure!(!text(&missing.stderr).contains("did you mean"), "{missing:?}");
    let man = folder.path().join("man");
    std::fs::create_dir(&man)?;
    ensure!(vmcp(folder.path(), &["man", "man"])?.status.success());
    let page = std::fs::read_to_string(man.join("vmcp-doctor.1"))?;
    ensure!(page.contains(".TH") && page.contains("Examples"), "{page}");
    Ok(())
}
