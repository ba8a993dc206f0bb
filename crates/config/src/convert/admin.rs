//! Converts the section `admin`, and the keys of `telemetry` that concern `/metrics`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use vmcp_backends::policy::Secret;

use super::Findings;
use super::edge::parse_host;
use super::incoming::caller_issuer;
use crate::file::{Admin, IncomingAuth, Telemetry};
use crate::report::Problem;
use crate::settings::AdminSettings;

/// The default port of the admin listener: one more than that of the client listener.
pub(crate) const PORT: u16 = 4484;
/// The shortest scrape key, in characters. A shorter key can be guessed.
const KEY_BYTES_MIN: usize = 16;

/// The settings of the operators' pages, and the scrape key for collectors of metrics.
pub(super) fn convert(
    admin: Option<Admin>,
    telemetry: Option<&Telemetry>,
    (folder, incoming, name): (Option<String>, Option<&IncomingAuth>, &str),
    findings: &mut Findings<'_>,
) -> (AdminSettings, Option<Secret>) {
    let Admin { listen, scrape_key } = admin.unwrap_or_default();
    let listen = match listen.as_deref() {
        None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))),
        Some("off") => None,
        Some(text) => parse_address(text, findings),
    };
    if listen.is_some_and(|address| !address.ip().is_loopback()) {
        findings.add_warning(
            "admin.listen",
            "is not a loopback address, and the pages there ask for no credential",
        );
    }
    let is_short = scrape_key.as_ref().is_some_and(|key| key.len() < KEY_BYTES_MIN);
    if is_short {
        findings.add_problem("admin.scrapeKey", format!("must be at least {KEY_BYTES_MIN} characters"));
    }
    let is_metrics_public = telemetry.is_some_and(|telemetry| {
        telemetry.enable_prometheus_metrics_path == Some(true)
            && telemetry.metrics_on_transport_port != Some(false)
    });
    if telemetry.is_some_and(|telemetry| telemetry.prometheus_port.is_some()) {
        findings
            .add_warning("telemetry.prometheusPort", "has no effect; `/metrics` is on `admin.listen` too");
    }
    if let Some(telemetry) = telemetry {
        warn_of_unused_keys(telemetry, findings);
    }
    let (state_folder, owns_state_folder) = state_folder(folder, name, findings);
    let issuer = caller_issuer(incoming);
    let settings = AdminSettings { listen, is_metrics_public, state_folder, owns_state_folder, issuer };
    (settings, scrape_key.map(Secret::new))
}

/// The folder for files that outlive the process, and whether it belongs to this gateway alone. It does if
/// the file or a service manager (`STATE_DIRECTORY`) names it. The fallback under the user's home does not:
/// gateways of the same name share it.
fn state_folder(file: Option<String>, name: &str, findings: &mut Findings<'_>) -> (Option<PathBuf>, bool) {
    if let Some(folder) = file {
        if folder.trim().is_empty() {
            findings.add_problem("stateFolder", "must not be empty");
        }
        return (Some(folder.into()), true);
    }
    let variable = |name: &str| (findings.env)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("STATE_DIRECTORY") {
        return (Some(folder), true);
    }
    let home = || variable("HOME").map(|home| home.join(".local/state"));
    let to_plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(to_plain).collect();
    let folder = variable("XDG_STATE_HOME").or_else(home);
    (folder.map(|folder| folder.join("vmcp").join(name.trim_start_matches('.'))), false)
}

/// Warns about keys of `telemetry` that only concern traces or a collector.
fn warn_of_unused_keys(telemetry: &Telemetry, findings: &mut Findings<'_>) {
    let keys = [
        ("serviceName", telemetry.service_name.is_some()),
        ("serviceVersion", telemetry.service_version.is_some()),
        ("samplingRate", telemetry.sampling_rate.is_some()),
        ("customAttributes", !telemetry.custom_attributes.is_empty()),
        ("environmentVariables", !telemetry.environment_variables.is_empty()),
    ];
    for (key, _) in keys.into_iter().filter(|(_, is_there)| *is_there) {
        findings.add_warning(
            format!("telemetry.{key}"),
            "has no effect: this build does not have traces and OTLP yet",
        );
    }
}

fn parse_address(text: &str, findings: &mut Findings<'_>) -> Option<SocketAddr> {
    let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = split else {
        let problem = Problem::new("admin.listen", format!("`{text}` is not an address"));
        findings.push(problem.with_hint("write it like `127.0.0.1:4484`, or `off` for no such listener"));
        return None;
    };
    parse_host(host, "admin.listen", findings).map(|host| SocketAddr::new(host, port))
}
