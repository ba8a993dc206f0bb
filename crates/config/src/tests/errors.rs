//! Tests of wrong configs and their exact messages, which are in `tests/config/errors.txt`.

mod access;
pub(crate) mod semantics;
mod shape;

use std::fmt::Write as _;

use crate::tests::errors::semantics::{JSON, SEMANTICS, UNSUPPORTED};
use access::ACCESS;
use shape::SHAPE;

use super::{env, load_with, overrides};
use crate::import::mcp_json;
use crate::{Overrides, Report};

#[test]
fn every_wrong_config_gets_its_message() {
    let mut page = String::from(
        "Wrong configs and the messages they get. Written by a test; UPDATE_EXPECT=1 writes it anew.\n",
    );
    for (title, text) in SHAPE.iter().chain(SEMANTICS).chain(ACCESS).chain(UNSUPPORTED) {
        let text = text.trim_matches('\n');
        let report = load_with(text, &overrides()).err();
        write_case(&mut page, title, text, report);
    }
    for (title, text) in JSON {
        let text = text.trim_matches('\n');
        let report = mcp_json::load_text(text, "mcp.json", &env, &overrides()).err();
        write_case(&mut page, title, text, report);
    }
    let flags = Overrides { host: Some("0.0.0.0".to_owned()), ..overrides() };
    let report = load_with("name: a\nbackends: [{name: b, command: c}]", &flags).err();
    write_case(
        &mut page,
        "--host 0.0.0.0 without incomingAuth",
        "name: a\nbackends: [{name: b, command: c}]",
        report,
    );
    expect_test::expect_file!["../../tests/files/errors.txt"].assert_eq(&page);
}

fn write_case(page: &mut String, title: &str, text: &str, report: Option<Report>) {
    let report = report.unwrap_or_else(|| panic!("{title}: accepted"));
    write!(page, "\n== {title}\n\n").unwrap();
    for line in text.lines() {
        writeln!(page, "{}", format!("    {line}").trim_end()).unwrap();
    }
    write!(page, "\n{report}\n").unwrap();
}

#[test]
fn secrets_are_not_repeated() {
    let text = "
name: ${TOKEN}
backends:
  - {name: a, url: '${TOKEN}', transport: '${TOKEN}', timeout: '${TOKEN}', headers: {X: '${BROKEN}'}}
listen: {port: '${TOKEN}'}
aggregation: {excludeAllTools: '${TOKEN}', tools: '${TOKEN}'}
";
    let report = load_with(text, &overrides()).unwrap_err().to_string();
    assert!(!report.contains("t0psecret") && !report.contains("lines\n"), "{report}");
    assert_eq!(report.lines().count(), 7, "{report}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    let report = crate::load_file(&file, &env, &overrides()).unwrap_err();
    assert_eq!(report.problems[0].message, "is larger than 1048576 bytes");
    let gone = crate::load_file(&folder.path().join("gone.yaml"), &env, &overrides()).unwrap_err();
    assert!(gone.problems[0].message.starts_with("cannot be read: "), "{gone}");
    let gone = crate::load_mcp_json(&folder.path().join("gone.json"), &env, &overrides()).unwrap_err();
    assert!(gone.problems[0].message.starts_with("cannot be read: "), "{gone}");
}
