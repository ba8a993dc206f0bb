//! Tests of manifests: the configs that they become, and the messages about those that are refused.

use std::fmt::Write as _;

use super::*;

const MANIFEST: &str = include_str!("../../../tests/files/manifest.yaml");

#[test]
fn a_manifest_becomes_a_configuration() {
    let ImportedConfig { text, remarks, blocking_problems: unserved } =
        convert(MANIFEST, "manifest.yaml", None).unwrap();
    assert_eq!(unserved, []);
    assert!(!text.contains("never-copied"), "{text}");
    let mut page = text;
    page.push_str("# ---- what is told\n");
    for remark in remarks {
        writeln!(page, "# {}", Report::format_line("manifest.yaml", &remark, "")).unwrap();
    }
    expect_test::expect_file!["../../../tests/files/manifest.carried.yaml"].assert_eq(&page);
}

#[test]
fn a_dollar_and_a_brace_stay_what_they_are() {
    let text = convert(MANIFEST, "", None).unwrap().text;
    let set = |_: &str| Some("value".to_owned());
    let settings = load_text(&text, "", &set, &Overrides::default()).unwrap();
    let search = settings.backends.iter().find(|backend| backend.id.as_str() == "search").unwrap();
    let header = |name: &str| search.headers.iter().find(|(key, _)| key == name).unwrap().1.expose();
    assert_eq!(header("x-team"), "a ${literal} text");
    assert_eq!(header("x-key"), "value");
}

const VERSION: &str = "apiVersion: toolhive.stacklok.dev/v1beta1";

/// A virtual server with `rest` as the end of its `spec`, and one server of its group.
fn server(rest: &str) -> String {
    format!(
        "{VERSION}\nkind: VirtualMCPServer\nmetadata: {{name: v}}\nspec:\n  \
         groupRef: {{name: g}}\n{rest}\n---\n{VERSION}\nkind: MCPServerEntry\nmetadata: {{name: s}}\nspec: {{remoteUrl: \
         'http://s/mcp', transport: sse, groupRef: {{name: g}}}}\n"
    )
}

#[test]
fn a_small_manifest_has_the_defaults_of_a_virtual_server() {
    let carried = convert(&server("  incomingAuth: {type: anonymous}"), "", None).unwrap();
    assert_eq!(carried.remarks, []);
    assert_eq!(carried.blocking_problems, []);
    let settings = load_text(&carried.text, "", &|_| None, &Overrides::default()).unwrap();
    assert_eq!((&*settings.name, settings.group.as_deref()), ("v", Some("g")));
    assert!(carried.text.contains("conflictResolution: prefix"), "{}", carried.text);
}

/// Manifests that must be refused. If the missing object were left out, the config would allow what the
/// manifest forbids.
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
        "  incomingAuth: {type: anonymous, authzConfig: {type: configMap, configMap: {name: cedar}}}\n---\napiVersion: v1\nkind: \
         ConfigMap\nmetadata: {name: cedar}\ndata: {other.json: '{}'}",
    ),
    (
        "policies in another language",
        "  incomingAuth: {type: anonymous, authzConfigRef: {name: other}}\n---\napiVersion: toolhive.stacklok.dev/v1\nkind: MCPAuthzConfig\nmetadata: \
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
         externalAuthConfigRef: {name: key}}}\n---\napiVersion: toolhive.stacklok.dev/v1\nkind: MCPExternalAuthConfig\nmetadata: {name: key}\nspec: {type: obo}",
    ),
    (
        "policies that the cluster finds invalid",
        "  incomingAuth: {type: anonymous, authzConfigRef: {name: bad}}\n---\napiVersion: toolhive.stacklok.dev/v1\nkind: \
         MCPAuthzConfig\nmetadata: {name: bad}\nspec: {type: cedarv1, config: {policies: []}}\nstatus: {conditions: [{type: \
         Valid, status: 'False', message: no policies}]}",
    ),
    (
        "a misspelt key of incoming authentication",
        "  incomingAuth: {type: anonymous, authzConfg: {type: inline}}",
    ),
    (
        "a key of the configuration in the wrong place",
        "  incomingAuth: {type: anonymous}\n  rateLimiting: {}",
    ),
    (
        "a misspelt key of tools",
        "  incomingAuth: {type: anonymous}\n  config: {aggregation: {tools: [{workload: s, filters: [a]}]}}",
    ),
    (
        "an object that is there twice",
        "  incomingAuth: {type: anonymous}\n---\napiVersion: toolhive.stacklok.dev/v1\nkind: MCPServerEntry\nmetadata: \
         {name: s}\nspec: {remoteUrl: 'http://other/mcp', transport: sse, groupRef: {name: g}}",
    ),
    ("a wrong type", "  incomingAuth: {type: anonymous}\n  config: {rateLimiting: {perUser: 5}}"),
    ("text that is not YAML", "  incomingAuth: {type: anonymous"),
    (
        "two virtual servers",
        "  incomingAuth: {type: anonymous}\n---\napiVersion: toolhive.stacklok.dev/v1\nkind: VirtualMCPServer\nmetadata: {name: w}",
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
    expect_test::expect_file!["../../../tests/files/manifest_errors.txt"].assert_eq(&page);
}

#[test]
fn one_of_several_virtual_servers_is_chosen_by_name() {
    let anonymous = server("  incomingAuth: {type: anonymous}");
    let second =
        anonymous.replace("{name: v}", "{name: w}").replace("metadata: {name: s}", "metadata: {name: t}");
    let text = format!("{anonymous}---\n{second}");
    assert!(convert(&text, "", None).is_err());
    assert!(convert(&text, "", Some("x")).is_err());
    let chosen = convert(&text, "", Some("w")).unwrap().text;
    assert!(chosen.contains("\nname: w\n"), "{chosen}");
}

/// The strategy of the backend `s` with its own object `own`, for a virtual server with `written` as
/// `outgoingAuth`.
fn strategy(written: &str, own: Option<&str>) -> Value {
    let header = |name: &str| {
        format!(
            "---\n{VERSION}\nkind: MCPExternalAuthConfig\nmetadata: {{name: {name}}}\nspec: {{type: headerInjection, \
             headerInjection: {{headerName: X-{name}, valueSecretRef: {{name: s, key: k}}}}}}\n"
        )
    };
    let mut text = server(&format!("  incomingAuth: {{type: anonymous}}\n  outgoingAuth: {written}"));
    if let Some(own) = own {
        text = text
            .replace("transport: sse,", &format!("transport: sse, externalAuthConfigRef: {{name: {own}}},"));
    }
    let text = format!("{text}{}{}{}", header("default"), header("written"), header("own"));
    let carried = convert(&text, "", None).unwrap_or_else(|report| panic!("{report}")).text;
    let root: Value = serde_saphyr::from_str(&carried).unwrap();
    let auth = &root["outgoingAuth"];
    let own = &auth["backends"]["s"];
    let used = if own.is_null() { &auth["default"] } else { own };
    used["headerInjection"]["headerName"].as_str().unwrap_or(used["type"].as_str().unwrap_or("none")).into()
}

#[test]
fn a_server_gets_the_credential_that_it_gets_in_the_cluster() {
    const DEFAULT: &str = "default: {type: externalAuthConfigRef, externalAuthConfigRef: {name: default}}";
    const WRITTEN: &str =
        "backends: {s: {type: externalAuthConfigRef, externalAuthConfigRef: {name: written}}}";
    for (auth, own, expected) in [
        ("{}".to_owned(), None, "none"),
        ("{}".to_owned(), Some("own"), "X-own"),
        (format!("{{{DEFAULT}}}"), None, "X-default"),
        (format!("{{{DEFAULT}}}"), Some("own"), "X-own"),
        (format!("{{{WRITTEN}}}"), None, "X-written"),
        // The backend's own object takes precedence, unless `source` is `inline`.
        (format!("{{{WRITTEN}}}"), Some("own"), "X-own"),
        (format!("{{source: inline, {WRITTEN}}}"), Some("own"), "X-written"),
        (format!("{{source: inline, {DEFAULT}}}"), Some("own"), "X-own"),
        // A backend with `type: discovered` and no object of its own does not get the default.
        (format!("{{{DEFAULT}, backends: {{s: {{type: discovered}}}}}}"), None, "unauthenticated"),
        (format!("{{{DEFAULT}, backends: {{s: {{type: discovered}}}}}}"), Some("own"), "X-own"),
    ] {
        assert_eq!(strategy(&auth, own), expected, "{auth} with {own:?}");
    }
}

#[test]
fn policies_that_read_a_providers_claims_are_not_served_without_it() {
    let text = server(
        "  incomingAuth: {type: anonymous, authzConfig: {type: inline, inline: {policies: ['permit(principal, action, \
         resource);']}}}\n  authServerConfig: {issuer: 'https://v', upstreamProviders: [{name: corporate, type: oidc}]}",
    );
    let carried = convert(&text, "", None).unwrap();
    assert!(carried.text.contains("primaryUpstreamProvider: corporate"), "{}", carried.text);
    assert!(!carried.blocking_problems.is_empty());
}

#[test]
fn a_server_of_another_namespace_or_group_of_kinds_is_no_backend() {
    let base = server("  incomingAuth: {type: anonymous}");
    for other in [
        "apiVersion: toolhive.stacklok.dev/v1\nkind: MCPServer\nmetadata: {name: foreign, namespace: n}",
        "apiVersion: kagent.dev/v1\nkind: MCPServer\nmetadata: {name: foreign}",
        "apiVersion: toolhive.stacklok.dev/v1\nkind: MCPServerEntry\nmetadata: {name: foreign}\nstatus: {phase: Failed}",
    ] {
        let spec = "spec: {remoteUrl: 'http://169.254.169.254/mcp', transport: stdio, groupRef: {name: g}}";
        let carried = convert(&format!("{base}---\n{other}\n{spec}\n"), "", None).unwrap();
        assert!(!carried.text.contains("name: foreign"), "{}", carried.text);
    }
}

#[test]
fn other_files_are_no_manifests() {
    assert!(!is_manifest(r#"{"mcpServers": {"kind": {"command": "apiVersion"}}}"#));
    assert!(!is_manifest("name: a\nbackends: []\n"));
    assert!(is_manifest(r#"{"apiVersion": "v1", "kind": "List", "items": []}"#));
}
