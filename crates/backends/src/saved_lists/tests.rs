use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use vmcp_domain::Secret;

use super::*;
use crate::policy::{CallerBounds, Isolation, StdioPolicy, Timeouts, Transport};

fn policy(change: impl FnOnce(&mut StdioPolicy)) -> BackendPolicy {
    let mut stdio = StdioPolicy {
        command: "server".to_owned(),
        args: vec!["--root".to_owned(), "/srv".to_owned()],
        env: BTreeMap::from([("TOKEN".to_owned(), Secret::new("one".to_owned()))]),
        inherit_env: vec!["KEY".to_owned()],
        cwd: None,
    };
    change(&mut stdio);
    BackendPolicy {
        id: "files".into(),
        transport: Transport::Stdio(stdio),
        timeouts: Timeouts::DEFAULT,
        headers: Vec::new(),
        isolation: Isolation::Shared,
        caller_bounds: CallerBounds::DEFAULT,
        credentials: None,
    }
}

fn environment(key: &str, path: &str) -> Environment {
    Environment::new([("KEY".into(), key.into()), ("PATH".into(), path.into())])
}

fn inventory() -> Inventory {
    let json = |text: &str| vmcp_json::Json::parse(text.to_owned()).unwrap();
    let tool = json(
        r#"{"name":"read","title":"Read","description":"Reads \u00e4","inputSchema":{"type":"object","properties":{"n":{"type":"integer","maximum":9007199254740993}}},"annotations":{"readOnlyHint":true},"x":1.0}"#,
    );
    let definitions = vmcp_wire::definitions::read_tool(&tool, ProtocolVersion::V2026_07_28).unwrap();
    let resource = vmcp_wire::definitions::read_resource(&json(r#"{"uri":"file:///a","name":"a"}"#)).unwrap();
    let template =
        vmcp_wire::definitions::read_template(&json(r#"{"uriTemplate":"file:///{x}","name":"x"}"#)).unwrap();
    let prompt = vmcp_wire::definitions::read_prompt(&json(r#"{"name":"ask"}"#)).unwrap();
    Inventory {
        tools: vec![definitions.item],
        resources: vec![resource.item],
        templates: vec![template.item],
        prompts: vec![prompt.item],
        instructions: Some("Ask first.\n".to_owned()),
        capabilities: json(r#"{"tools":{"listChanged":true},"resources":{}}"#).members().unwrap(),
        ..Inventory::default()
    }
}

#[test]
fn lists_are_read_as_they_were_saved() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path().join("state/lists");
    let file = SavedLists::open(&lists).unwrap().file(&policy(|_| {}), &environment("k", "/bin"));
    assert_eq!(file.load(), None);
    file.save(&inventory(), ProtocolVersion::V2026_07_28);
    // Another process.
    let again = SavedLists::open(&lists).unwrap().file(&policy(|_| {}), &environment("k", "/usr/bin"));
    assert_eq!(again.load(), Some(inventory()));
    assert_eq!(fs::metadata(&again.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&lists).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn other_settings_have_other_lists() {
    let folder = tempfile::tempdir().unwrap();
    let lists = SavedLists::open(folder.path()).unwrap();
    let path = |policy: &BackendPolicy, key: &str| lists.file(policy, &environment(key, "/bin")).path;
    let usual = path(&policy(|_| {}), "k");
    assert_eq!(usual, path(&BackendPolicy { id: "renamed".into(), ..policy(|_| {}) }, "k"));
    assert_ne!(usual, path(&policy(|_| {}), "another account"));
    let changes: [fn(&mut StdioPolicy); 5] = [
        |stdio| stdio.command.push('2'),
        |stdio| stdio.args = vec!["--root/srv".to_owned()],
        |stdio| drop(stdio.env.insert("TOKEN".to_owned(), Secret::new("two".to_owned()))),
        |stdio| stdio.inherit_env.clear(),
        |stdio| stdio.cwd = Some("/srv".into()),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_ne!(usual, path(&policy(change), "k"), "change {index}");
    }
    let other = tempfile::tempdir().unwrap();
    let elsewhere = SavedLists::open(other.path()).unwrap().file(&policy(|_| {}), &environment("k", "/bin"));
    assert_ne!(usual.file_name(), elsewhere.path.file_name(), "each folder has a secret of its own");
}

#[test]
fn unusable_files_are_ignored_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = SavedLists::open(folder.path()).unwrap().file(&policy(|_| {}), &Environment::default());
    let other_format = String::from_utf8(format::encode(&inventory(), ProtocolVersion::V2026_07_28)).unwrap();
    let other_format = other_format.replace("\"format\":1", "\"format\":2");
    for content in [&b""[..], b"{", b"[]", b"\xff", b"{\"format\":1}", other_format.as_bytes()] {
        fs::write(&file.path, content).unwrap();
        assert_eq!(file.load(), None, "{content:?}");
    }
    file.save(&inventory(), ProtocolVersion::V2026_07_28);
    assert_eq!(file.load(), Some(inventory()));
}

#[test]
fn the_oldest_files_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let lists = SavedLists::open(folder.path()).unwrap();
    let moment = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    for number in 0..FILES_MAX as u64 {
        let file = File::create(folder.path().join(format!("{number}.json"))).unwrap();
        file.set_modified(moment(number)).unwrap();
    }
    let file = lists.file(&policy(|_| {}), &Environment::default());
    file.save(&inventory(), ProtocolVersion::V2026_07_28);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), FILES_MAX + 1, "the key is kept too");
    assert!(!folder.path().join("0.json").exists() && folder.path().join("1.json").exists());
    assert!(file.load().is_some());
}
