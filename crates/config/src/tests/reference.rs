//! Tests with config files of ToolHive users.

use super::{load, overrides};
use crate::load_file;

/// Keys of ToolHive that this build does not support, or treats in another way, cause a warning.
#[test]
fn files_of_the_reference_are_accepted_with_warnings() {
    let text = "
name: a
backends: [{name: github, command: c, metadata: {team: x}}, {name: jira, command: c}]
metadata: {owner: me}
incomingAuth:
  type: oidc
  oidc: {issuer: 'https://issuer.example.com', audience: vmcp, clientId: c, clientSecretEnv: NOT_SET}
outgoingAuth: {source: inline, backends: {gone: {type: unauthenticated}}}
aggregation:
  conflictResolution: priority
  conflictResolutionConfig: {priorityOrder: [githb, jira], prefixFormat: 'team-'}
  tools: [{workload: gone, filter: [x]}]
operational:
  timeouts: {perWorkload: {gone: 60s}}
  failureHandling: {partialFailureMode: best_effort, statusReportingInterval: 30s}
telemetry: {serviceName: a, enablePrometheusMetricsPath: true, metricsEnabled: true}
sessionStorage: {provider: redis, address: 'h:6379'}
";
    let settings = load(text);
    let told: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
    for (start, absent) in [
        ("backends[0].metadata", false),
        ("metadata", false),
        ("incomingAuth.oidc.clientSecretEnv: the variable `NOT_SET` is not set", false),
        ("outgoingAuth.backends.gone: no backend is called `gone`", true),
        (
            "aggregation.conflictResolutionConfig.priorityOrder[0]: no backend is called `githb`, so this has no effect; did you mean `github`?",
            true,
        ),
        ("aggregation.conflictResolutionConfig.prefixFormat: does not contain `{workload}`", false),
        ("aggregation.tools[0].workload: no backend is called `gone`", true),
        ("operational.timeouts.perWorkload.gone: no backend is called `gone`", true),
        ("operational.failureHandling.partialFailureMode", false),
        ("operational.failureHandling.statusReportingInterval", false),
        ("sessionStorage.provider: has no effect: sessions are kept in this process", false),
    ] {
        let found = settings.warnings.iter().find(|warning| warning.to_string().starts_with(start));
        assert_eq!(
            found.map(|warning| warning.code == crate::ProblemCode::NoSuchBackend),
            Some(absent),
            "{start} in {told:#?}"
        );
        assert!(found.unwrap().line.is_some(), "{start}");
    }
}

#[test]
fn a_configuration_of_an_authorization_server_beside_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, "name: a\nbackends: [{name: b, command: c}]\n").unwrap();
    let loaded = || load_file(&file, &|_| None, &overrides());
    assert!(loaded().is_ok());
    std::fs::write(folder.path().join("authserver-config.yaml"), "issuer: x\n").unwrap();
    let refused = loaded().err().unwrap().to_string();
    assert!(refused.contains("`authserver-config.yaml` lies beside it"), "{refused}");
}
