//! Tests of configs that load, and of their settings.

use std::net::SocketAddr;
use std::time::Duration;

use vmcp_backends::policy::Isolation;
use vmcp_backends::policy::{Timeouts, Transport};
use vmcp_domain::BackendId;
use vmcp_edge::policy::{EdgeLimits, IncomingAuth};
use vmcp_federation::policy::HealthPolicy;
use vmcp_federation::policy::{ConflictPolicy, PrefixFormat, Visibility};
use vmcp_ratelimit::policy::{Consistency, LeasePolicy};

use super::{load, load_with, seconds};
use crate::{LogLevel, Overrides, effective_yaml};

/// A small config in ToolHive's format: every required key and no other.
const REFERENCE: &str = "
name: demo-vmcp
groupRef: demo
backends:
  - {name: fetch, url: 'http://127.0.0.1:8080/mcp', transport: streamable-http}
incomingAuth: {type: anonymous}
outgoingAuth: {source: inline}
aggregation:
  conflictResolution: prefix
  conflictResolutionConfig: {prefixFormat: '{workload}_'}
";

#[test]
fn the_smallest_file_has_the_defaults() {
    let settings = load("name: a\nbackends: [{name: b, command: c}]");
    assert_eq!(settings.edge.listen, SocketAddr::from(([127, 0, 0, 1], 4483)));
    assert_eq!(settings.edge.path, "/mcp");
    assert_eq!(settings.edge.limits, EdgeLimits::DEFAULT);
    assert_eq!(settings.edge.limits.session_idle_max, seconds(30 * 60));
    assert!(matches!(settings.edge.incoming, IncomingAuth::Anonymous));
    assert_eq!(settings.backends[0].timeouts, Timeouts::DEFAULT);
    assert_eq!(settings.health, HealthPolicy::DEFAULT);
    assert_eq!(settings.log_level, LogLevel::Info);
    assert_eq!(settings.aggregation.conflicts, ConflictPolicy::Auto { format: PrefixFormat::default() });
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[test]
fn the_references_smallest_config_loads_without_warnings() {
    let settings = load(REFERENCE);
    assert_eq!(settings.name, "demo-vmcp");
    assert_eq!(settings.group.as_deref(), Some("demo"));
    assert_eq!(settings.aggregation.conflicts, ConflictPolicy::Prefix { format: PrefixFormat::default() });
    assert_eq!(settings.aggregation.default_visibility, Visibility::Show);
    let Transport::StreamableHttp(http) = &settings.backends[0].transport else {
        panic!("{:?}", settings.backends[0].transport)
    };
    assert_eq!(http.url, "http://127.0.0.1:8080/mcp");
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[test]
fn manual_with_overrides() {
    let text = REFERENCE.replace(
        "conflictResolution: prefix",
        "conflictResolution: manual\n  tools: [{workload: fetch, overrides: {get: {name: fetch_get}}}]",
    );
    let settings = load(&text);
    assert_eq!(settings.aggregation.conflicts, ConflictPolicy::Manual);
    let tools = &settings.aggregation.backends[&BackendId::from("fetch")];
    assert_eq!(tools.renames["get"].as_str(), "fetch_get");
    assert_eq!(settings.warnings[0].path, "aggregation.conflictResolutionConfig.prefixFormat");
}

#[test]
fn everything_at_once_comes_to_the_expected_settings() {
    let settings = load(include_str!("../../tests/files/full.yaml"));
    let warnings: Vec<String> = settings.warnings.iter().map(|warning| format!("# {warning}\n")).collect();
    let page = format!("{}{}", warnings.concat(), effective_yaml(&settings).unwrap());
    expect_test::expect_file!["../../tests/files/full.effective.yaml"].assert_eq(&page);

    let [github, jira, files] = settings.backends.as_slice() else { panic!("{:?}", settings.backends) };
    assert_eq!(github.headers[0].0, "authorization");
    assert_eq!(github.headers[0].1.expose(), "t0psecret");
    assert_eq!(jira.headers[0].0, "x-api-key");
    assert!(files.headers.is_empty(), "the default strategy is for HTTP backends");
    assert_eq!(github.timeouts.call, seconds(60));
    assert_eq!(jira.timeouts.call, seconds(45));
    assert_eq!(files.timeouts.call, seconds(90));
    let Transport::Stdio(stdio) = &files.transport else { panic!("{:?}", files.transport) };
    assert_eq!(stdio.env["FILES_TOKEN"].expose(), "t0psecret");
    assert_eq!(stdio.env["LITERAL"].expose(), "${TOKEN}");
    assert_eq!(stdio.env["VERSION"].expose(), "1.10", "numbers keep their spelling");
    assert_eq!(stdio.args[4], "t0psecret");
    let tools = &settings.aggregation.backends[&BackendId::from("github")];
    let hints = tools.overrides["list_issues"].annotations.clone().unwrap();
    assert_eq!((hints.read_only, hints.destructive), (Some(true), None));
}

#[test]
fn both_spellings_of_durations() {
    for spelling in ["1m0s", "{duration: 1m0s}", "{duration: 60s}", "'60s'"] {
        let settings = load(&format!("name: a\nbackends: [{{name: b, command: c, timeout: {spelling}}}]"));
        assert_eq!(settings.backends[0].timeouts.call, seconds(60), "{spelling}");
    }
    for spelling in ["1m0s", "{duration: 1m0s}"] {
        let settings = load(&format!(
            "{REFERENCE}rateLimiting: {{shared: {{maxTokens: 5, refillPeriod: {spelling}}}}}\n"
        ));
        let quota = settings.limits.unwrap().policy.server.shared.unwrap();
        assert_eq!(quota.windows[0].rate.configured(), (5, seconds(60)), "{spelling}");
    }
}

#[test]
fn spellings_the_references_parser_takes() {
    let settings = load(
        "
name: 1.10
defaults: &defaults
backends:
  - &first {name: on, url: 'http://h/mcp', transport: streamable-http, caBundlePath: ''}
  - {<<: *first, name: 0x10}
outgoingAuth: {default: null}
aggregation: {conflictResolution: auto, excludeAllTools: yes, defaultToolVisibility: ''}
listen:
"
        .replace("defaults: &defaults\n", "")
        .as_str(),
    );
    assert_eq!(settings.name, "1.10");
    let names: Vec<&str> = settings.backends.iter().map(|backend| backend.id.as_str()).collect();
    assert_eq!(names, ["on", "0x10"]);
    assert!(settings.aggregation.exclude_all_tools);
}

#[test]
fn a_default_strategy_that_reaches_nobody_is_told_about() {
    let settings = load(
        "
name: a
backends: [{name: b, command: c}]
outgoingAuth: {default: {type: header_injection, headerInjection: {headerName: X-Key, headerValue: v}}}
",
    );
    assert_eq!(settings.warnings[0].path, "outgoingAuth.default.headerInjection");
}

#[test]
fn flags_win_over_the_file() {
    let flags = Overrides {
        host: Some("localhost".to_owned()),
        port: Some(0),
        session_ttl: Some(seconds(60)),
        enable_audit: true,
        debug: true,
        user: Some("ada".to_owned()),
    };
    let text = format!("{REFERENCE}listen: {{host: 0.0.0.0, port: 1}}\n");
    let settings = load_with(&text.replace("anonymous", "local"), &flags).unwrap();
    assert_eq!(settings.edge.listen, SocketAddr::from(([127, 0, 0, 1], 0)));
    assert_eq!(settings.edge.limits.session_idle_max, seconds(60));
    assert_eq!(settings.log_level, LogLevel::Debug);
    let IncomingAuth::Local(identity) = &settings.edge.incoming else {
        panic!("{:?}", settings.edge.incoming)
    };
    assert_eq!((identity.issuer.as_str(), identity.subject.as_str()), ("local", "ada"));
}

#[test]
fn addresses() {
    for (host, address) in [
        ("127.0.0.1", "127.0.0.1:4483"),
        ("LocalHost", "127.0.0.1:4483"),
        ("'::1'", "[::1]:4483"),
        ("'[::]'", "[::]:4483"),
        ("0.0.0.0", "0.0.0.0:4483"),
    ] {
        let settings = load(&format!("{REFERENCE}listen: {{host: {host}}}\n"));
        assert_eq!(settings.edge.listen.to_string(), address);
    }
}

#[test]
fn a_user_who_is_not_known_cannot_be_the_caller() {
    let report = load_with(&REFERENCE.replace("anonymous", "local"), &Overrides::default()).unwrap_err();
    assert_eq!(report.problems[0].path, "incomingAuth.type");
}

#[test]
fn a_policy_about_a_virtual_tool_is_told_about_where_there_is_one() {
    let text = r#"
name: a
backends: [{name: b, command: c}]
incomingAuth:
  type: local
  authz: {type: cedar, policies: ['forbid(principal, action, resource == Tool::"call_tool");']}
"#;
    assert_eq!(load(text).warnings, []);
    let warnings = load(&format!("{text}optimizer: {{}}")).warnings;
    assert_eq!(warnings[0].path, "incomingAuth.authz.policies[0]");
    assert!(warnings[0].message.contains("offered to everybody"), "{}", warnings[0]);
}

#[test]
fn callers_that_can_differ_are_kept_apart_where_a_backend_may_have_sessions() {
    const KEY: &str =
        "{name: N, hash: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}";
    let keys = |count: usize| {
        let keys: Vec<String> = (0..count)
            .map(|number| KEY.replace('N', &format!("k{number}")).replacen('0', &number.to_string(), 1))
            .collect();
        format!("{{type: apiKey, apiKeys: [{}]}}", keys.join(", "))
    };
    for (host, auth, sessions_apart, warns) in [
        ("127.0.0.1", "{type: anonymous}".to_owned(), false, false),
        ("0.0.0.0", "{type: anonymous}".to_owned(), true, true),
        ("127.0.0.1", "{type: local}".to_owned(), false, false),
        ("127.0.0.1", keys(1), false, false),
        ("127.0.0.1", keys(2), false, true),
    ] {
        let text = format!(
            "name: a\nlisten: {{host: {host}}}\nincomingAuth: {auth}\n\
             backends: [{{name: b, command: c}}, {{name: d, url: 'https://d.example'}}]\n"
        );
        let settings = load(&text);
        let isolation: Vec<Isolation> = settings.backends.iter().map(|backend| backend.isolation).collect();
        assert_eq!(isolation, [Isolation::Shared, Isolation::Automatic { sessions_apart }], "{text}");
        let warned = settings.warnings.iter().any(|warning| warning.path == "backends[0].isolation");
        assert_eq!(warned, warns, "{text}: {:?}", settings.warnings);
        assert_eq!(settings.process_count_worst_case(), 1);
        let written = text.replace("command: c", "command: c, isolation: perCaller");
        let settings = load(&written);
        assert_eq!(settings.warnings, []);
        assert_eq!(settings.process_count_worst_case(), 64);
    }
}

#[test]
fn a_policy_that_names_a_key_and_a_user_alike_is_told_about() {
    let text = r#"
name: a
backends: [{name: b, command: c, isolation: shared}]
incomingAuth:
  type: oidc
  oidc: {issuer: 'https://idp.example', audience: vmcp, clientId: vmcp}
  apiKeys: [{name: bot, hash: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}]
  authz: {type: cedar, policies: ['permit(principal == Client::"bot", action, resource) WHEN;']}
"#;
    let warnings = |when: &str| load(&text.replace("WHEN", when)).warnings;
    let [warning] = &warnings("")[..] else { panic!("{:?}", warnings("")) };
    assert_eq!(warning.path, "incomingAuth.authz.policies[0]");
    assert!(warning.message.contains("every user of the issuer with this subject"), "{warning}");
    assert_eq!(warnings(r#"when { principal.claim_iss == "vmcp:api-key" }"#), []);
}

#[test]
fn a_bundle_of_certificates_that_is_not_there_is_told_about() {
    let text = "
name: a
backends: [{name: b, url: 'https://b.example/mcp', transport: streamable-http, caBundlePath: /nowhere/ca.pem}]
incomingAuth: {type: anonymous}
";
    let warnings = load(text).warnings;
    assert_eq!(warnings[0].path, "backends[0].caBundlePath");
}

#[test]
fn a_rule_waits_as_long_as_it_says_or_all_do() {
    let text = "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  shared: {maxTokens: 5, refillPeriod: 1m}
  maxWait: 30s
  tools:
    - {name: inherits, shared: {maxTokens: 5, refillPeriod: 1m}}
    - {name: shorter, maxWait: {duration: 1500ms}, shared: {maxTokens: 5, refillPeriod: 1m}}
    - {name: never, maxWait: 0s, shared: {maxTokens: 5, refillPeriod: 1m}}
";
    let settings = load(text);
    assert_eq!(settings.warnings, []);
    let policy = settings.limits.unwrap().policy;
    let waits: Vec<u128> = policy.tools.iter().map(|rule| rule.limits.wait_max.as_millis()).collect();
    assert_eq!((policy.server.wait_max.as_secs(), waits), (30, vec![30_000, 1500, 0]));
    let idle = load(
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  waiting: {maxCalls: 5}
  tools: [{name: t, mode: shadow, maxWait: 5s, shared: {maxTokens: 5, refillPeriod: 1m}}]
",
    );
    assert_eq!(idle.warnings[0].path, "rateLimiting.tools[0].maxWait");
    let idle = load(
        "
name: a
backends: [{name: b, command: c}]
rateLimiting: {waiting: {maxCalls: 5}, shared: {maxTokens: 5, refillPeriod: 1m}}
",
    );
    assert_eq!(idle.warnings[0].path, "rateLimiting.waiting");
}

#[test]
fn an_empty_loop_breaker_watches_every_tool() {
    let loops = |section: &str| {
        let text = format!("{{name: a, backends: [{{name: b, command: c}}], loopBreaker: {section}}}");
        load(&text).loop_breaker.unwrap()
    };
    let default = loops("{}");
    assert_eq!((default.repeats.get(), default.within.as_secs()), (5, 60));
    assert!(default.tools.is_none());
    let own = loops("{repeats: 2, within: 10m, tools: ['get_*']}");
    assert_eq!((own.repeats.get(), own.within.as_secs()), (2, 600));
    let named = own.tools.unwrap();
    assert!(named[0].matches("get_time") && !named[0].matches("any"));
}

#[test]
fn leases_are_read_and_idle_ones_are_warned_of() {
    let text = |consistency: &str, tokens: u32| {
        format!(
            "name: a\nbackends: [{{name: b, command: c}}]\nrateLimiting:\n  shared: {{maxTokens: {tokens}, refillPeriod: 1s}}\n  \
             redis: {{url: 'redis://127.0.0.1:6379'}}\n  {consistency}\n"
        )
    };
    let lease = |text: &str| load(text).limits.unwrap().policy.consistency;
    assert_eq!(lease(&text("consistency: exact", 1000)), Consistency::Exact);
    let policy = LeasePolicy { duration: Duration::from_millis(100), hold_back: false };
    assert_eq!(lease(&text("consistency: lease", 1000)), Consistency::Lease(policy));
    let policy = LeasePolicy { duration: Duration::from_millis(250), hold_back: true };
    let split = text("consistency: split\n  lease: {duration: 250ms, holdBack: true}", 1000);
    assert_eq!(lease(&split), Consistency::Split(policy));
    let warned =
        |text: &str| load(text).warnings.iter().map(|warning| warning.path.clone()).collect::<Vec<_>>();
    assert_eq!(warned(&split), [""; 0]);
    assert_eq!(warned(&text("consistency: lease", 10)), ["rateLimiting.consistency"]);
    assert_eq!(warned(&text("lease: {duration: 1s}", 1000)), ["rateLimiting.lease"]);
    let memory =
        text("consistency: lease", 1000).replace("redis: {url: 'redis://127.0.0.1:6379'}", "store: memory");
    assert_eq!(warned(&memory), ["rateLimiting.consistency"]);
}

#[test]
fn slots_are_held_as_long_as_the_file_says() {
    let text = |rest: &str| {
        format!(
            "name: a\nbackends: [{{name: b, command: c}}]\nrateLimiting:\n  concurrency: {{shared: 4}}\n  \
             redis: {{url: 'redis://127.0.0.1:6379'}}\n  {rest}\n"
        )
    };
    let lease = |text: &str| load(text).limits.unwrap().redis.unwrap().slot_lease;
    assert_eq!(lease(&text("code: 429")), Duration::from_secs(15));
    assert_eq!(lease(&text("concurrencyLease: 1m")), Duration::from_secs(60));
    let slow = text("code: 429").replace("6379'", "6379', deadline: 3s");
    assert_eq!(lease(&slow), Duration::from_secs(24), "eight decisions");
    let warned =
        |text: &str| load(text).warnings.iter().map(|warning| warning.path.clone()).collect::<Vec<_>>();
    assert_eq!(warned(&text("concurrencyLease: 1m")), [""; 0]);
    let idle = text("concurrencyLease: 1m")
        .replace("concurrency: {shared: 4}", "shared: {maxTokens: 5, refillPeriod: 1m}");
    assert_eq!(warned(&idle), ["rateLimiting.concurrencyLease"]);
    let memory =
        text("concurrencyLease: 1m").replace("redis: {url: 'redis://127.0.0.1:6379'}", "store: memory");
    assert_eq!(warned(&memory), ["rateLimiting.concurrencyLease"]);
}
