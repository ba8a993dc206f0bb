//! Converts `backends[].isolation` and `isolation`: which callers share a connection to a backend that keeps
//! state.

use vmcp_backends::policy::{BackendPolicy, CallerBounds, Isolation, ProcessPolicy, Transport};
use vmcp_edge::policy::{EdgePolicy, IncomingAuth};
use vmcp_identity::BearerPolicy;

use super::Findings;
use crate::file::{self, IncomingAuth as FileAuth, IncomingKind};
use crate::report::join_path;

/// The policy of a backend, with the `isolation` of its entry, which [`convert`] applies later.
pub(super) struct ConvertedBackend {
    pub(super) policy: BackendPolicy,
    /// The path of the entry in the file, such as `backends[0]`.
    pub(super) path: String,
    pub(super) isolation: Option<file::Isolation>,
}

/// True if every caller has the same identity: a single API key.
pub(super) fn has_one_identity(auth: Option<&FileAuth>) -> bool {
    auth.is_some_and(|auth| auth.kind == IncomingKind::ApiKey && auth.api_keys.len() <= 1)
}

/// Sets the isolation and the bounds of each backend. Also returns the largest number of processes of all
/// stdio backends together.
pub(super) fn convert(
    backends: Vec<ConvertedBackend>,
    file: Option<file::IsolationBounds>,
    (edge, has_one_identity): (Option<&EdgePolicy<BearerPolicy>>, bool),
    findings: &mut Findings<'_>,
) -> (Vec<BackendPolicy>, usize) {
    let (bounds, process_count_max) = convert_bounds(file.unwrap_or_default(), findings);
    let sessions_apart = edge.is_some_and(|edge| !edge.listen.ip().is_loopback());
    let callers_differ = edge.is_some_and(|edge| match edge.incoming {
        IncomingAuth::Anonymous => sessions_apart,
        IncomingAuth::Local(_) => false,
        IncomingAuth::Bearer(_) => !has_one_identity,
    });
    let complete = |ConvertedBackend { mut policy, path, isolation }: ConvertedBackend| {
        policy.caller_bounds = bounds;
        let path = join_path(&path, "isolation");
        let is_stdio = matches!(policy.transport, Transport::Stdio(_));
        policy.isolation = match isolation {
            Some(_) if policy.credentials.is_some() => {
                findings
                    .add_warning(path, "has no effect: each caller's requests carry a credential of its own");
                Isolation::Shared
            }
            Some(file::Isolation::Shared) => Isolation::Shared,
            Some(file::Isolation::PerCaller) => Isolation::PerCaller,
            Some(file::Isolation::PerSession) => Isolation::PerSession,
            None if policy.credentials.is_some() => Isolation::Shared,
            None if is_stdio => {
                if callers_differ {
                    findings.add_warning(path, SHARED_PROCESS_WARNING);
                }
                Isolation::Shared
            }
            None => Isolation::Automatic { sessions_apart },
        };
        policy
    };
    let policies: Vec<BackendPolicy> = backends.into_iter().map(complete).collect();
    check_processes(&policies, process_count_max, findings);
    (policies, process_count_max)
}

/// The warning about a stdio backend without `isolation`, if callers can differ.
const SHARED_PROCESS_WARNING: &str = "is not written: all callers share one process, so what the server keeps for one (a login, an opened \
     project, a browser, a transaction) is the next one's too; write `perCaller` for such a server, or `shared` if it \
     keeps nothing";

fn convert_bounds(file: file::IsolationBounds, findings: &mut Findings<'_>) -> (CallerBounds, usize) {
    let file::IsolationBounds {
        max_processes,
        max_connections,
        max_connections_per_caller,
        idle_timeout,
        wait,
    } = file;
    let mut count = |key: &str, value: Option<u32>, default: usize| match value {
        None => default,
        Some(0) => {
            findings.add_problem(join_path("isolation", key), "must be greater than zero").hint =
                Some("leave the key out for the default".to_owned());
            default
        }
        Some(value) => usize::try_from(value).unwrap_or(default),
    };
    let default = CallerBounds::DEFAULT;
    let process_count_max = count("maxProcesses", max_processes, ProcessPolicy::COUNT_MAX);
    let connections_max = count("maxConnections", max_connections, default.connections_max);
    let per_caller_max = count("maxConnectionsPerCaller", max_connections_per_caller, default.per_caller_max);
    let idle = idle_timeout.and_then(|time| findings.require_positive("isolation.idleTimeout", time));
    let wait = wait.and_then(|time| findings.require_positive("isolation.wait", time));
    let bounds = CallerBounds {
        connections_max,
        per_caller_max,
        idle_timeout: idle.unwrap_or(default.idle_timeout),
        acquire_timeout: wait.unwrap_or(default.acquire_timeout),
    };
    (bounds, process_count_max)
}

/// Reports a `maxProcesses` that leaves no slot for callers. Each stdio backend's own process always runs, so
/// the bound must be larger than the number of stdio backends.
fn check_processes(policies: &[BackendPolicy], count_max: usize, findings: &mut Findings<'_>) {
    let stdio = || policies.iter().filter(|policy| matches!(policy.transport, Transport::Stdio(_)));
    let is_isolated = |policy: &BackendPolicy| policy.isolation != Isolation::Shared;
    if stdio().any(is_isolated) && count_max <= stdio().count() {
        let message = format!(
            "must be greater than {}, the number of stdio backends: each has a process of its own besides those of callers",
            stdio().count()
        );
        findings.add_problem("isolation.maxProcesses", message);
    }
}
