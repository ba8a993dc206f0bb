//! Starts the backends.

use std::path::PathBuf;
use std::sync::Arc;

use vmcp_backends::policy::BackendPolicy;
use vmcp_backends::{Backends, ClientInfo};
use vmcp_config::AdminSettings;
use vmcp_domain::Backend;
use vmcp_federation::policy::{AggregationPolicy, HealthPolicy, PinMode};
use vmcp_federation::{Federation, ToolPins};

use crate::metrics::Metrics;
use crate::metrics::backend_metrics::{CountedBackend, backend_counters};
use crate::process;
use crate::running::start_error::StartError;
use crate::tool_records::ToolRecordsFile;

/// The folder of the saved lists in the state folder.
const LISTS_FOLDER: &str = "lists";

/// The folder for the last known lists of backends, if the gateway saves them and has a state folder.
fn lists_folder(admin: &AdminSettings, saves_lists: bool) -> Option<PathBuf> {
    admin.state_folder.as_deref().filter(|_| saves_lists).map(|folder| folder.join(LISTS_FOLDER))
}

/// Starts the federation, which compares tools with their records in the state folder.
///
/// # Errors
/// As [`tool_pins`].
fn federate(
    policy: &AggregationPolicy,
    (admin, is_writer): (&AdminSettings, bool),
    health: HealthPolicy,
    backends: Vec<Arc<dyn Backend>>,
) -> Result<Federation, StartError> {
    let pins = tool_pins(policy, admin, is_writer)?;
    Ok(Federation::start_with_pins(policy.clone(), pins, health, backends))
}

/// The records of tools in the state folder. `None` without a state folder.
///
/// # Errors
/// If changed tools must be held back and there is no state folder that knows which have changed.
fn tool_pins(
    policy: &AggregationPolicy,
    admin: &AdminSettings,
    is_writer: bool,
) -> Result<Option<ToolPins>, StartError> {
    match &admin.state_folder {
        Some(folder) => {
            let records = ToolRecordsFile::new(folder, is_writer);
            Ok(Some(ToolPins::new(policy.pin_mode, Arc::new(records))))
        }
        None if policy.pin_mode == PinMode::Hold => Err(StartError::NoRecords),
        None => Ok(None),
    }
}

/// Starts the backends, counts the requests to each of them, and makes them one.
///
/// # Errors
/// If TLS towards token endpoints cannot be set up, or as [`tool_pins`].
pub(super) fn start(
    (policies, process_count_max, gateway_name): (Vec<BackendPolicy>, usize, &str),
    (admin, saves_lists): (&AdminSettings, bool),
    (aggregation, health): (&AggregationPolicy, HealthPolicy),
    metrics: &Metrics,
) -> Result<(Backends, Federation), StartError> {
    // The client name and version that the gateway sends to backends.
    let identity =
        ClientInfo { name: gateway_name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let processes = process::process_policy(process_count_max);
    let counters = backend_counters(&policies, metrics);
    let lists = lists_folder(admin, saves_lists);
    let backends = Backends::start(policies, &identity, &processes, lists.as_deref())
        .map_err(StartError::TokenEndpointTls)?;
    let counted = backends.all().cloned().zip(counters);
    let counted = counted.map(|(backend, counters)| CountedBackend::wrap(backend, counters)).collect();
    let federation = federate(aggregation, (admin, saves_lists), health, counted)?;
    Ok((backends, federation))
}
