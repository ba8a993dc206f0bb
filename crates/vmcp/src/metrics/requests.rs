//! Counts requests to the MCP endpoint, under ToolHive's names. A label holds no value that a client can
//! invent: unknown methods, and names that no catalogue has listed, are counted as `other`.

use std::sync::{Arc, OnceLock};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_edge::{ObservedRequest, RequestObserver};
use vmcp_wire::method;

use super::MCP_SECONDS;
use crate::metrics::series_table::SeriesTable;

/// The only client transport that serves `/metrics`.
const TRANSPORT: &str = "streamable-http";
/// The label value of a name that no catalogue has listed.
const OTHER: &str = "other";
/// The label value of the MCP method for a request without a message.
const UNKNOWN: &str = "unknown";

/// Returns whether a name has been listed. The arguments are the MCP method and the name.
type IsListed = dyn Fn(&str, &str) -> bool + Send + Sync;

/// For each key, the table of series by the name that a request is about.
type Tables = AHashMap<SeriesKey, Arc<SeriesTable<Series>>>;

/// The series of requests, and the tables that find them without a lock.
pub(super) struct RequestMetrics {
    server: Arc<str>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RequestLabels, Histogram>,
    tool_calls: Family<ToolLabels, Counter>,
    active: Family<ServerLabels, Gauge>,
    active_gauge: OnceLock<Gauge>,
    is_listed: OnceLock<Box<IsListed>>,
    tables: ArcSwap<Tables>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    status_code: u16,
    status: &'static str,
    mcp_method: &'static str,
    mcp_resource_id: String,
    server: Arc<str>,
    transport: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ToolLabels {
    server: Arc<str>,
    tool: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServerLabels {
    server: Arc<str>,
    transport: &'static str,
}

/// The labels of a series, except the name that a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct SeriesKey {
    http_method: &'static str,
    status: u16,
    method: &'static str,
}

/// The series of one combination of labels. Keeping them together needs one search of the label tables for
/// each combination.
struct Series {
    requests: Counter,
    durations: Histogram,
    tool_calls: Option<Counter>,
}

impl RequestMetrics {
    pub(super) fn new(server: &str) -> Self {
        Self {
            server: Arc::from(server),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(MCP_SECONDS)),
            tool_calls: Family::default(),
            active: Family::default(),
            active_gauge: OnceLock::new(),
            is_listed: OnceLock::new(),
            tables: ArcSwap::default(),
        }
    }

    /// Adds the series to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("toolhive_mcp_requests", "Requests to the MCP endpoint", self.requests.clone());
        registry.register_with_unit(
            "toolhive_mcp_request_duration",
            "How long requests to the MCP endpoint took",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "toolhive_mcp_active_connections",
            "Requests to the MCP endpoint that have not ended",
            self.active.clone(),
        );
        registry.register("toolhive_mcp_tool_calls", "Tool calls by clients", self.tool_calls.clone());
    }

    /// Sets the check that separates listed names from names that a client invented. Until it is set, all
    /// names count as `other`.
    pub(super) fn set_name_check(&self, is_listed: Box<IsListed>) {
        let _ = self.is_listed.set(is_listed);
    }

    fn active_requests(&self) -> &Gauge {
        self.active_gauge.get_or_init(|| {
            let labels = ServerLabels { server: Arc::clone(&self.server), transport: TRANSPORT };
            self.active.get_or_create_owned(&labels)
        })
    }

    /// Calls `count` with the series of `subject`. A `subject` that is not listed uses the series of `other`.
    fn count(&self, key: SeriesKey, subject: &str, count: impl Fn(&Series)) {
        if let Some(table) = self.tables.load().get(&key)
            && let Some(series) = table.load().get(subject)
        {
            return count(series);
        }
        let table = self.table(key);
        let table_now = table.load();
        let is_listed = self.is_listed.get().is_some_and(|is_listed| is_listed(key.method, subject));
        let name = if is_listed || subject.is_empty() { subject } else { OTHER };
        match table_now.get(name) {
            Some(series) => count(series),
            None => {
                let series = Arc::new(self.create(key, name));
                table.add(name, &series);
                count(&series);
            }
        }
    }

    /// Returns the table of a key, and creates it on first use. The number of tables is bounded by the number
    /// of HTTP methods, MCP methods and statuses.
    fn table(&self, key: SeriesKey) -> Arc<SeriesTable<Series>> {
        if let Some(table) = self.tables.load().get(&key) {
            return Arc::clone(table);
        }
        let new = Arc::new(SeriesTable::default());
        self.tables.rcu(|tables| {
            let mut tables = AHashMap::clone(tables);
            tables.entry(key).or_insert_with(|| Arc::clone(&new));
            tables
        });
        self.tables.load().get(&key).map_or(new, Arc::clone)
    }

    fn create(&self, key: SeriesKey, name: &str) -> Series {
        let status = if key.status >= 400 { "error" } else { "success" };
        let labels = RequestLabels {
            method: key.http_method,
            status_code: key.status,
            status,
            mcp_method: key.method,
            mcp_resource_id: name.to_owned(),
            server: Arc::clone(&self.server),
            transport: TRANSPORT,
        };
        let is_call = key.method == method::TOOLS_CALL && !name.is_empty();
        let tool = || ToolLabels { server: Arc::clone(&self.server), tool: name.to_owned(), status };
        Series {
            requests: self.requests.get_or_create_owned(&labels),
            durations: self.durations.get_or_create_owned(&labels),
            tool_calls: is_call.then(|| self.tool_calls.get_or_create_owned(&tool())),
        }
    }
}

impl RequestObserver for RequestMetrics {
    fn on_start(&self) {
        self.active_requests().inc();
    }

    fn on_end(&self, request: &ObservedRequest<'_>) {
        self.active_requests().dec();
        let key = SeriesKey {
            http_method: request.http_method,
            status: request.status,
            method: request.method.unwrap_or(UNKNOWN),
        };
        self.count(key, request.subject.unwrap_or_default(), |series| {
            series.requests.inc();
            series.durations.observe(request.duration.as_secs_f64());
            if let Some(tool_calls) = &series.tool_calls {
                tool_calls.inc();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text;

    use super::*;

    fn page(metrics: &RequestMetrics) -> String {
        let (mut registry, mut page) = (Registry::default(), String::new());
        metrics.register(&mut registry);
        text::encode(&mut page, &registry).unwrap();
        page
    }

    fn call(subject: &str, status: u16) -> ObservedRequest<'_> {
        ObservedRequest {
            http_method: "POST",
            status,
            method: Some("tools/call"),
            subject: Some(subject),
            duration: Duration::from_millis(15),
        }
    }

    #[test]
    fn a_name_that_nobody_lists_is_other() {
        let metrics = RequestMetrics::new("office");
        metrics.set_name_check(Box::new(|method, name| (method, name) == ("tools/call", "echo")));
        for (name, status) in [("echo", 200), ("echo", 200), ("made-up", 200), ("made-up-too", 403)] {
            metrics.on_start();
            metrics.on_end(&call(name, status));
        }
        metrics.on_start();
        metrics.on_end(&ObservedRequest {
            http_method: "DELETE",
            method: None,
            subject: None,
            ..call("", 200)
        });
        metrics.on_start();
        let page = page(&metrics);
        let with = |method, code, status, mcp, name| {
            format!(
                r#"method="{method}",status_code="{code}",status="{status}",mcp_method="{mcp}",mcp_resource_id="{name}",server="office",transport="streamable-http""#
            )
        };
        for line in [
            format!(
                "toolhive_mcp_requests_total{{{}}} 2",
                with("POST", 200, "success", "tools/call", "echo")
            ),
            format!("toolhive_mcp_requests_total{{{}}} 1", with("POST", 403, "error", "tools/call", "other")),
            format!("toolhive_mcp_requests_total{{{}}} 1", with("DELETE", 200, "success", "unknown", "")),
            format!(
                "toolhive_mcp_request_duration_seconds_bucket{{le=\"0.02\",{}}} 2",
                with("POST", 200, "success", "tools/call", "echo")
            ),
            r#"toolhive_mcp_tool_calls_total{server="office",tool="echo",status="success"} 2"#.to_owned(),
            r#"toolhive_mcp_tool_calls_total{server="office",tool="other",status="error"} 1"#.to_owned(),
            r#"toolhive_mcp_active_connections{server="office",transport="streamable-http"} 1"#.to_owned(),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
        assert!(!page.contains("made-up"), "{page}");
    }
}
