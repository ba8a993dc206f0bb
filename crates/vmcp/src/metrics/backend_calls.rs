//! Counts requests to backends, under ToolHive's names. The label values are tool and prompt names that a
//! backend has listed, because a request with another name reaches no backend.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_wire::method;

use super::MCP_SECONDS;
use crate::metrics::series_table::SeriesTable;

/// The most names of one backend that have series of their own, for each action. Further names are counted as
/// `other`.
const NAMES_MAX: usize = 10_000;
const OTHER: &str = "other";

/// The kind of a request to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    CallTool,
    ReadResource,
    GetPrompt,
    Complete,
    ListCapabilities,
}

impl Action {
    const COUNT: usize = 5;

    /// The values of the labels `action` and `mcp_method_name`.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::CallTool => ("call_tool", method::TOOLS_CALL),
            Self::ReadResource => ("read_resource", method::RESOURCES_READ),
            Self::GetPrompt => ("get_prompt", method::PROMPTS_GET),
            Self::Complete => ("complete", "complete"),
            Self::ListCapabilities => ("list_capabilities", "list_capabilities"),
        }
    }
}

/// The series of all backends. Clones share the same series.
#[derive(Clone)]
pub(super) struct BackendCallMetrics {
    discovered: Gauge,
    requests: Family<CallLabels, Counter>,
    errors: Family<CallLabels, Counter>,
    durations: Family<CallLabels, Histogram>,
}

/// The labels of one series. Prometheus treats an empty label value as an absent label.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    target_workload_id: Arc<str>,
    target_workload_name: Arc<str>,
    target_base_url: Arc<str>,
    target_transport_type: &'static str,
    action: &'static str,
    mcp_method_name: &'static str,
    tool_name: String,
    gen_ai_tool_name: String,
    prompt_name: String,
    gen_ai_prompt_name: String,
}

/// The series of one combination of labels.
pub(crate) struct CallSeries {
    pub(crate) requests: Counter,
    pub(crate) errors: Counter,
    pub(crate) durations: Histogram,
}

/// The counters of one backend.
pub(crate) struct BackendCounters {
    metrics: BackendCallMetrics,
    id: Arc<str>,
    url: Arc<str>,
    transport: &'static str,
    series: [SeriesTable<CallSeries>; Action::COUNT],
}

impl Default for BackendCallMetrics {
    fn default() -> Self {
        Self {
            discovered: Gauge::default(),
            requests: Family::default(),
            errors: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(MCP_SECONDS)),
        }
    }
}

impl BackendCallMetrics {
    /// Adds the series to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self { discovered, requests, errors, durations } = self.clone();
        registry.register("toolhive_vmcp_backends_discovered", "Backends of the configuration", discovered);
        registry.register("toolhive_vmcp_backend_requests", "Requests to each backend", requests);
        registry.register("toolhive_vmcp_backend_errors", "Requests to each backend that failed", errors);
        registry.register_with_unit(
            "toolhive_vmcp_backend_requests_duration",
            "How long requests to each backend took",
            Unit::Seconds,
            durations,
        );
    }

    /// Creates the counters of one more backend and increments the number of backends. The label shows `url`
    /// without user info, query and fragment. `transport` is the configured transport.
    pub(super) fn for_backend(&self, id: &str, url: &str, transport: &'static str) -> BackendCounters {
        self.discovered.inc();
        let (all, url) = (self.clone(), Arc::from(redact_url(url)));
        BackendCounters { metrics: all, id: Arc::from(id), url, transport, series: Default::default() }
    }
}

/// Removes the user info, the query and the fragment of a URL, because they may hold secrets.
fn redact_url(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or(url);
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    }
}

impl BackendCounters {
    /// Returns the series of `action` on `name`, and creates it on first use.
    pub(crate) fn series(&self, action: Action, name: &str) -> Arc<CallSeries> {
        let [calls, reads, prompts, completions, lists] = &self.series;
        let table = match action {
            Action::CallTool => calls,
            Action::ReadResource => reads,
            Action::GetPrompt => prompts,
            Action::Complete => completions,
            Action::ListCapabilities => lists,
        };
        let table_now = table.load();
        if let Some(series) = table_now.get(name) {
            return Arc::clone(series);
        }
        let name = if table_now.len() < NAMES_MAX { name } else { OTHER };
        let series = Arc::new(self.create(action, name));
        table.add(name, &series);
        series
    }

    fn create(&self, action: Action, name: &str) -> CallSeries {
        let (label, method) = action.labels();
        let name_if = |wanted: Action| if action == wanted { name.to_owned() } else { String::new() };
        let labels = CallLabels {
            target_workload_id: Arc::clone(&self.id),
            target_workload_name: Arc::clone(&self.id),
            target_base_url: Arc::clone(&self.url),
            target_transport_type: self.transport,
            action: label,
            mcp_method_name: method,
            tool_name: name_if(Action::CallTool),
            gen_ai_tool_name: name_if(Action::CallTool),
            prompt_name: name_if(Action::GetPrompt),
            gen_ai_prompt_name: name_if(Action::GetPrompt),
        };
        CallSeries {
            requests: self.metrics.requests.get_or_create_owned(&labels),
            errors: self.metrics.errors.get_or_create_owned(&labels),
            durations: self.metrics.durations.get_or_create_owned(&labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_secrets() {
        for (url, expected) in [
            ("https://user:word@host:1/mcp?key=secret#x", "https://host:1/mcp"),
            ("http://host", "http://host"),
            ("", ""),
        ] {
            assert_eq!(redact_url(url), expected);
        }
    }
}
