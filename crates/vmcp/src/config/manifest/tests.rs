//! Manifests, what they become, and what is said of those that become nothing.

use std::fmt::Write as _;

use super::*;

const WHOLE: &str = include_str!("../../../tests/config/manifest.yaml");

#[test]
fn a_manifest_becomes_a_configuration() {
    let Carried { text, remarks, unserved } = convert(WHOLE, "manifest.yaml", None).unwrap();
    assert_eq!(unserved, []);
    assert!(!text.contains("never-copied"), "{text}");
    let mut page = text;
    page.push_str("# ---- what is told\n");
    for remark in remarks {
        writeln!(page, "# {}", Report::line("manifest.yaml", &remark, "")).unwrap();
    }
    expect_test::expect_file!["../../../tests/config/manifest.carried.yaml"].assert_eq(&page);
}

#[test]
fn a_dollar_and_a_brace_stay_what_they_are() {
    let text = convert(WHOLE, "", None).unwrap().text;
    let set = |_: &str| Some("value".to_owned());
    let settings = load_text(&text, "", &set, &Overrides::default()).unwrap();
    let search = settings.backends.iter().find(|backend| backend.id.as_str() == "search").unwrap();
    let header = |name: &str| search.headers.iter().find(|(key, _)| key == name).unwrap().1.expose();
    assert_eq!(header("x-team"), "a ${literal} text");
    assert_eq!(header("x-key"), "value");
    assert_eq!(header("authorization"), "Bearer value");
}

/// A virtual server whose `spec` goes on as the text says.
fn server(rest: &str) -> String {
    format!(
        "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: VirtualMCPServer\nmetadata: {{name: v}}\nspec:\n  \
         groupRef: {{name: g}}\n{rest}\n---\nkind: MCPServerEntry\nmetadata: {{name: s}}\nspec: {{remoteUrl: \
         'http://s/mcp', transport: sse, groupRef: {{name: g}}}}\n"
    )
}

#[test]
fn a_small_manifest_has_the_defaults_of_a_virtual_server() {
    let carried = convert(&server("  incomingAuth: {type: anonymous}"), "", None).unwrap();
    assert_eq!(carried.remarks, []);
    assert_eq!(carried.unserved, []);
    let settings = load_text(&carried.text, "", &|_| None, &Overrides::default()).unwrap();
    assert_eq!((&*settings.name, settings.group.as_deref()), ("v", Some("g")));
    assert!(carried.text.contains("conflictResolution: prefix"), "{}", carried.text);
}

/// Where something that is referred to is left out, something would be allowed that was not.
const REFUSED: &[(&str, &str)] = &[
    ("no incoming authentication", ""),
    ("a kind of authentication that does not exist", "  incomingAuth: {type: open}"),
    ("an issuer without a reference", "  incomingAuth: {type: oidc}"),
    ("an issuer that is not there", "  incomingAuth: {type: oidc, oidcConfigRef: {name: idp, audience: a}}"),
    ("policies that are not there", "  incomingAuth: {type: anonymous, authzConfigRef: {name: cedar}}"),
    (
        "policies in a map that is not there",
        "  incomingAuth: {type: anonymous, authzConfig: {type: configMap, configMap: {name: cedar}}}",
    ),
    (
        "policies in two ways",
        "  incomingAuth: {type: anonymous, authzConfigRef: {name: a}, authzConfig: {type: inline, inline: {policies: []}}}",
    ),
    (
        "policies in a map without the key",
        "  incomingAuth: {type: anonymous, authzConfig: {type: configMap, configMap: {name: cedar}}}\n---\nkind: \
         ConfigMap\nmetadata: {name: cedar}\ndata: {other.json: '{}'}",
    ),
    (
        "policies in another language",
        "  incomingAuth: {type: anonymous, authzConfigRef: {name: other}}\n---\nkind: MCPAuthzConfig\nmetadata: \
         {name: other}\nspec: {type: httpv1, config: {policies: []}}",
    ),
    (
        "a filter that is not there",
        "  incomingAuth: {type: anonymous}\n  config: {aggregation: {tools: [{workload: s, toolConfigRef: {name: few}}]}}",
    ),
    (
        "a credential that is not there",
        "  incomingAuth: {type: anonymous}\n  outgoingAuth: {default: {type: externalAuthConfigRef, \
         externalAuthConfigRef: {name: key}}}",
    ),
    (
        "a credential that cannot be carried over",
        "  incomingAuth: {type: anonymous}\n  outgoingAuth: {default: {type: externalAuthConfigRef, \
         externalAuthConfigRef: {name: key}}}\n---\nkind: MCPExternalAuthConfig\nmetadata: {name: key}\nspec: {type: obo}",
    ),
    ("a wrong type", "  incomingAuth: {type: anonymous}\n  config: {rateLimiting: {perUser: 5}}"),
    ("text that is not YAML", "  incomingAuth: {type: anonymous"),
    (
        "two virtual servers",
        "  incomingAuth: {type: anonymous}\n---\nkind: VirtualMCPServer\nmetadata: {name: w}",
    ),
];

#[test]
fn what_cannot_become_a_configuration_is_refused() {
    let mut page =
        String::from("Manifests that are refused. Written by a test; UPDATE_EXPECT=1 writes it anew.\n");
    let none = ("no virtual server", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n".to_owned());
    let cases = REFUSED.iter().map(|(title, rest)| (*title, server(rest)));
    for (title, text) in cases.chain([none]) {
        assert!(is_manifest(&text), "{title}");
        let report =
            convert(&text, "manifest.yaml", None).err().unwrap_or_else(|| panic!("{title}: accepted"));
        write!(page, "\n== {title}\n\n{report}\n").unwrap();
    }
    expect_test::expect_file!["../../../tests/config/manifest_errors.txt"].assert_eq(&page);
}

#[test]
fn one_of_several_virtual_servers_is_chosen_by_name() {
    let anonymous = server("  incomingAuth: {type: anonymous}");
    let text = format!("{anonymous}---\n{}", anonymous.replace("{name: v}", "{name: w}"));
    assert!(convert(&text, "", None).is_err());
    assert!(convert(&text, "", Some("x")).is_err());
    let chosen = convert(&text, "", Some("w")).unwrap().text;
    assert!(chosen.contains("\nname: w\n"), "{chosen}");
}

#[test]
fn other_files_are_no_manifests() {
    assert!(!is_manifest(r#"{"mcpServers": {"kind": {"command": "apiVersion"}}}"#));
    assert!(!is_manifest("name: a\nbackends: []\n"));
    assert!(is_manifest(r#"{"apiVersion": "v1", "kind": "List", "items": []}"#));
}
