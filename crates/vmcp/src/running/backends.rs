//! Starts the backends.

use std::path::PathBuf;
use std::sync::Arc;

use vmcp_backends::policy::{BackendPolicy, ProcessPolicy};
use vmcp_backends::{Backends, ClientInfo};
use vmcp_config::AdminSettings;
use vmcp_domain::Backend;

use crate::metrics::Metrics;
use crate::metrics::backend_metrics::{CountedBackend, backend_counters};
use crate::running::start_error::StartError;

/// The folder of the saved lists in the state folder.
const LISTS_FOLDER: &str = "lists";

/// The folder for the last known lists of backends, if the gateway saves them and has a state folder.
pub(super) fn lists_folder(admin: &AdminSettings, saves_lists: bool) -> Option<PathBuf> {
    admin.state_folder.as_deref().filter(|_| saves_lists).map(|folder| folder.join(LISTS_FOLDER))
}

/// Starts the backends and counts the requests to each of them.
pub(super) fn start(
    policies: Vec<BackendPolicy>,
    gateway_name: &str,
    processes: &ProcessPolicy,
    lists_folder: Option<PathBuf>,
    metrics: &Metrics,
) -> Result<(Backends, Vec<Arc<dyn Backend>>), StartError> {
    // The client name and version that the gateway sends to backends.
    let identity =
        ClientInfo { name: gateway_name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let counters = backend_counters(&policies, metrics);
    let backends = Backends::start(policies, &identity, processes, lists_folder.as_deref())
        .map_err(StartError::TokenEndpointTls)?;
    let counted_backends = backends.all().cloned().zip(counters);
    let counted_backends =
        counted_backends.map(|(backend, counters)| CountedBackend::wrap(backend, counters)).collect();
    Ok((backends, counted_backends))
}
