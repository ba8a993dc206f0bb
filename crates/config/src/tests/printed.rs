//! Tests of the texts that the config module writes: the starter, imported servers and the schema.

use serde_json::{Value, json};

use super::reference_page::EXAMPLES;
use super::{env, load, load_with, overrides};
use crate::Settings;
use crate::import::mcp_json;
use crate::{ImportedConfig, effective_json, effective_yaml, schema_text, starter, starter_from};

#[test]
fn the_starter_loads_as_it_is() {
    let settings = load(&starter());
    assert_eq!(settings.name, "my-vmcp");
    let warnings: Vec<&str> = settings.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(warnings, ["backends"]);
}

#[test]
fn the_starters_examples_load_when_they_are_uncommented() {
    let mut text = starter().replace("backends: []", "backends:");
    for line in starter().lines() {
        // Commented examples are keys and list items. Sentences begin with a capital letter or end with a
        // colon.
        let bare = line.replacen("# ", "", 1);
        let word = bare.trim_start().trim_start_matches("- ");
        let is_example = line.trim_start().starts_with("# ")
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.contains(':')
            && !line.contains("vmcp:")
            && !line.contains("(backend")
            && !line.starts_with("# priority")
            || line.contains("Authorization:")
            || line.contains("TOKEN: ");
        if is_example {
            text = text.replacen(line, &bare, 1);
        }
    }
    let text = text.replace("${FILES_TOKEN}", "${TOKEN}").replace("${GITHUB_TOKEN}", "${TOKEN}");
    let settings = load(&text);
    assert_eq!(settings.backends.len(), 2, "{text}");
    assert_eq!(settings.aggregation.backends.len(), 1, "{text}");
}

const SERVERS: &str = r##"{
  // as VS Code writes it
  "servers": {
    "files": {
      "command": "npx", "args": ["-y", "server", "12:30", "no", "# not a comment", "a\nb: 'c'"],
      "env": {"TOKEN": "${TOKEN}", "NUMBER": 5, "EMPTY": "", "HOME_DIR": "${GONE:-/root}", "PRICE": "$${5}"},
      "cwd": "/srv", "autoApprove": ["x"],
    },
    "web": {"url": "https://example.com/mcp", "type": "http", "headers": {"Authorization": "Bearer ${env:TOKEN}"}},
    "old": {"url": "https://example.com/sse", "type": "sse"},
    "off": {"command": "x", "disabled": true}, /* and a last comma */
  },
}"##;

#[test]
fn carried_over_servers_come_to_the_same_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mcp.json");
    std::fs::write(&file, SERVERS).unwrap();
    let ImportedConfig { text: yaml, remarks: warnings, blocking_problems: unserved } =
        starter_from(&file, None).unwrap();
    assert_eq!(unserved, []);
    assert!(yaml.contains("${env:TOKEN}"), "references are carried over as they are: {yaml}");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let (json, yaml) = (mcp_json::load_text(SERVERS, "mcp.json", &env, &overrides()).unwrap(), load(&yaml));
    let shown =
        |settings| serde_json::from_str::<Value>(&effective_json(settings)).unwrap()["backends"].take();
    assert_eq!(shown(&json), shown(&yaml));
    for (one, other) in json.backends.iter().zip(&yaml.backends) {
        assert_eq!(one.headers, other.headers);
        let (vmcp_backends::policy::Transport::Stdio(one), vmcp_backends::policy::Transport::Stdio(other)) =
            (&one.transport, &other.transport)
        else {
            continue;
        };
        assert_eq!((&one.args, &one.env), (&other.args, &other.env));
        assert_eq!(one.env["HOME_DIR"].expose(), "/root");
        assert_eq!(one.env["PRICE"].expose(), "${5}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let settings = load(include_str!("../../tests/files/full.yaml"));
    let (yaml, json) = (effective_yaml(&settings).unwrap(), effective_json(&settings));
    assert!(!yaml.contains("t0psecret") && !json.contains("t0psecret"), "{yaml}");
    let debug = format!("{settings:?}").replace("\"t0psecret\"", "").replace("k=t0psecret", "");
    assert!(!debug.contains("t0psecret"), "only arguments may tell: {debug}");
}

#[test]
fn arguments_and_urls_that_look_like_secrets_are_not_shown() {
    let settings = load(
        "
name: a
backends:
  - name: b
    command: npx
    args: [-y, '@scope/server-of-things@1.2.3', /srv/data, --token, abc, --header=x, ghp_0123456789abcdefghij,
      'X-Key: sk-0123456789abcdefghij', --verbose, 'postgres://me:pw@db/x']
  - {name: c, url: 'https://h/api/mcp/s/N2Q0ZTYwOTctYzA4ZS00/mcp?key=v'}
",
    );
    let shown: Value = serde_json::from_str(&effective_json(&settings)).unwrap();
    let hidden = "[redacted]";
    assert_eq!(
        shown["backends"][0]["args"],
        json!([
            "-y",
            "@scope/server-of-things@1.2.3",
            "/srv/data",
            "--token",
            hidden,
            "--header=[redacted]",
            hidden,
            hidden,
            "--verbose",
            "postgres://redacted@db/x"
        ])
    );
    assert_eq!(shown["backends"][1]["url"], "https://h/api/mcp/s/[redacted]/mcp?[redacted]");
}

/// A section of the settings as text. It contains no secret.
type SectionText = fn(&Settings) -> String;

#[test]
fn the_output_of_config_show_means_the_same_file() {
    let sections: [SectionText; 9] = [
        |settings| format!("{:?}", settings.edge.listen),
        |settings| format!("{:?}", settings.edge.limits),
        |settings| format!("{:?}", settings.aggregation),
        |settings| format!("{:?}", settings.health),
        |settings| format!("{:?}", settings.limits),
        |settings| format!("{:?}", settings.loop_breaker),
        |settings| format!("{:?}", settings.audit),
        |settings| format!("{:?}", settings.optimizer),
        |settings| format!("{:?}", settings.workflows.policy),
    ];
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("authority.pem");
    std::fs::write(&bundle, include_str!("../../../identity/tests/it/keys/authority.pem")).unwrap();
    // Every variable that an example refers to has a value.
    let environment = |name: &str| {
        let value = match name {
            "HOME" | "STATE_DIRECTORY" | "XDG_STATE_HOME" | "VMCP_NAMESPACE" => return None,
            "CA_BUNDLE" | "LIMITS_PASSWORD_FILE" => bundle.to_str().unwrap(),
            "HOST" => "value.example",
            "PORT" => "9000",
            _ => "0123456789abcdef0123",
        };
        Some(value.to_owned())
    };
    let load = |text: &str| {
        crate::load_text(text, "vmcp.yaml", &environment, &overrides())
            .unwrap_or_else(|report| panic!("{report}\n{text}"))
    };
    for text in EXAMPLES {
        let settings = load(text);
        let shown = effective_yaml(&settings).unwrap();
        let again = load(&shown);
        assert_eq!(shown, effective_yaml(&again).unwrap(), "{text}");
        for section in sections {
            assert_eq!(section(&settings), section(&again), "{shown}");
        }
        let ids = |settings: &Settings| {
            settings.backends.iter().map(|backend| backend.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&settings), ids(&again));
    }
}

#[test]
fn references_to_the_environment_stay_references() {
    let settings = load(
        "
name: a
listen: {port: '${PORT:-4000}'}
backends:
  - {name: b, command: npx, args: ['--token', '${TOKEN}', '$${x}', '--pw=${TOKEN:-hush}'], env: {KEY: 'x${TOKEN}', PLAIN: literal,
      MIXED: 'ghp_0123456789abcdefghij${TOKEN}', DEFAULT: '${GONE:-hush}'}}
  - {name: c, url: 'https://h/s/N2Q0ZTYwOTctYzA4ZS00/${TOKEN}'}
",
    );
    let shown: Value = serde_json::from_str(&effective_json(&settings)).unwrap();
    assert_eq!(shown["listen"]["port"], 9000, "no secret, so the value in effect");
    assert_eq!(shown["backends"][0]["args"], json!(["--token", "${TOKEN}", "$${x}", "[redacted]"]));
    assert_eq!(
        shown["backends"][0]["env"],
        json!({"DEFAULT": "[redacted]", "KEY": "x${TOKEN}", "MIXED": "[redacted]", "PLAIN": "[redacted]"})
    );
    assert_eq!(shown["backends"][1]["url"], "https://redacted", "neither its key nor the variable");
}

#[test]
fn the_schema_is_checked_in() {
    expect_test::expect_file!["../../../../docs/config/vmcp.schema.json"].assert_eq(&schema_text());
}

#[test]
fn the_schema_describes_every_key() {
    let schema: Value = serde_json::from_str(&schema_text()).unwrap();
    let root = [("File", &schema)];
    let defs = schema["$defs"].as_object().unwrap();
    let types = root.into_iter().chain(defs.iter().map(|(name, def)| (name.as_str(), def)));
    for (name, def) in types {
        for (key, property) in def["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{key}");
        }
        if def["properties"].is_object() {
            assert_eq!(def["additionalProperties"], json!(false), "{name}");
        }
    }
}

#[test]
fn one_wrong_file_gets_one_line_for_each_problem() {
    let report = load_with("name: a\nbackend: []\n", &overrides()).unwrap_err();
    assert_eq!(report.to_string(), "vmcp.yaml:2: backend: unknown key; did you mean `backends`?");
}
