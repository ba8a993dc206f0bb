//! What `vmcp doctor` checks with a running gateway: the services that it uses, and the servers behind it.

use vmcp::RunningGateway;
use vmcp::config::Settings;
use vmcp_backends::policy::{BackendPolicy, Transport};
use vmcp_backends::shown_url;
use vmcp_domain::Unauthorized;
use vmcp_edge::policy::IncomingAuth;
use vmcp_federation::{BackendReport, Health};

use super::code;
use super::report::Section;

/// A token of the right shape that no identity provider has issued. The check of its signature needs the keys of
/// the provider.
const UNKNOWN_TOKEN: &[u8] = b"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6InZtY3AtZG9jdG9yIn0.e30.AA";

/// One line about the settings that answers depend on most.
pub(super) fn summary(settings: &Settings) -> String {
    let callers = match &settings.edge.incoming {
        IncomingAuth::Anonymous => "callers are anonymous",
        IncomingAuth::Local(_) => "callers are the local user",
        IncomingAuth::Bearer(_) => "callers present a credential",
    };
    let limits = match &settings.limits {
        None => "no limits",
        Some(limits) if limits.redis.is_some() => "limits in Redis",
        Some(_) => "limits in memory",
    };
    let policies = if settings.authz.is_some() { "policies" } else { "no policies" };
    let search =
        if settings.optimizer.is_some() { "find_tool and call_tool" } else { "the whole list of tools" };
    format!("{callers}; {limits}; {policies}; clients see {search}")
}

/// The identity provider and the shared store of limits.
pub(super) async fn services(gateway: &RunningGateway) -> Section {
    let mut section = Section::new("Services");
    if let IncomingAuth::Bearer(authenticator) = &gateway.edge.incoming {
        match authenticator.authenticate(Some(UNKNOWN_TOKEN), None).await {
            Err(Unauthorized::Unavailable) => section.fail(
                code::IDENTITY_PROVIDER,
                format!("the identity provider {} does not answer", authenticator.challenge().realm),
            ),
            Ok(_) => section.fail(
                code::IDENTITY_PROVIDER,
                "the identity provider accepts a token that it has not issued",
            ),
            Err(
                Unauthorized::Missing
                | Unauthorized::Malformed
                | Unauthorized::InvalidToken(_)
                | Unauthorized::InsufficientScope { .. },
            ) => section.pass("callers' credentials can be checked"),
        }
    }
    if let Some(available) = gateway.limiter.as_ref().and_then(|limiter| limiter.is_store_available()) {
        if available {
            section.pass("the shared store of limits answers");
        } else {
            section.fail(code::LIMIT_STORE, "the shared store of limits does not answer");
        }
    }
    section
}

/// The servers, each with what it offers or with what is wrong.
pub(super) async fn servers(gateway: &RunningGateway, settings: &Settings) -> Section {
    let mut section = Section::new("Servers");
    // Waits until each server has answered or failed.
    gateway.federation.wait_for_discovery().await;
    for (report, policy) in gateway.federation.reports().iter().zip(&settings.backends) {
        let server = format!("{} ({})", report.id, described(policy));
        if let Some(failure) = &report.status.connect_failure {
            section.fail(failure.code, format!("{server}: {failure}"));
        } else if report.caller_count.is_some() {
            section.note(format!("{server}: its lists depend on the caller, so they are not checked"));
        } else if report.health() == Health::Healthy {
            section.pass(format!("{server}: {}", counts(report)));
        } else if report.health() == Health::Degraded {
            section.warn("list-failure", format!("{server}: {}, and a list cannot be read", counts(report)));
        } else if report.health() == Health::Unauthenticated {
            section.fail("server-login", format!("{server}: {}", report.failure_text()));
        } else {
            section.fail("server-timeout", format!("{server}: {}", report.failure_text()));
        }
    }
    section
}

fn counts(report: &BackendReport) -> String {
    let revision = report.status.protocol.map_or("an unknown version", |version| version.as_str());
    format!(
        "{} tools, {} resources, {} prompts, MCP {revision}",
        report.tool_count, report.resource_count, report.prompt_count
    )
}

/// How a server is reached, without arguments and queries, which may hold secrets.
fn described(policy: &BackendPolicy) -> String {
    match &policy.transport {
        Transport::Stdio(stdio) => {
            let variables = if stdio.env.is_empty() {
                String::new()
            } else {
                format!(", variables {}", stdio.env.keys().map(String::as_str).collect::<Vec<_>>().join(" "))
            };
            format!("stdio: {}, {} arguments{variables}", stdio.command, stdio.args.len())
        }
        Transport::StreamableHttp(http) | Transport::Sse(http) => {
            let headers = if policy.headers.is_empty() { "" } else { ", with headers" };
            format!("{}: {}{headers}", policy.transport.as_str(), shown_url(&http.url))
        }
    }
}

/// The findings about names, lists and limits.
pub(super) fn findings(gateway: &RunningGateway) -> Section {
    let mut section = Section::new("Findings");
    for finding in gateway.federation.findings() {
        section.warn(finding.code(), finding.to_string());
    }
    let limits = gateway.limiter.as_ref().map(|limiter| limiter.findings()).unwrap_or_default();
    for text in limits {
        section.warn(vmcp::LIMIT_FINDING_CODE, text);
    }
    section
}
