//! The health and the tool count of each backend, read when the page is requested.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use vmcp_federation::{BackendReport, Health};

/// The gauges, one series for each backend.
#[derive(Default)]
pub(super) struct BackendMetrics {
    health: Family<HealthLabels, Gauge>,
    failing_lists: Family<BackendLabels, Gauge>,
    tools: Family<BackendLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BackendLabels {
    backend: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HealthLabels {
    backend: String,
    health: &'static str,
}

impl BackendMetrics {
    /// Adds the gauges to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "vmcp_backend_health",
            "1 for the health that the backend has now, 0 for the others",
            self.health.clone(),
        );
        registry.register(
            "vmcp_backend_failing_lists",
            "Lists of the backend that cannot be read, or not wholly",
            self.failing_lists.clone(),
        );
        registry.register("vmcp_backend_tools", "Tools that the backend offered last", self.tools.clone());
    }

    /// Sets the gauges from the current reports.
    pub(super) fn set(&self, reports: &[BackendReport]) {
        for report in reports {
            let backend = || report.id.as_str().to_owned();
            for health in Health::ALL {
                let labels = HealthLabels { backend: backend(), health: health.as_str() };
                self.health.get_or_create(&labels).set(i64::from(report.health() == health));
            }
            let labels = BackendLabels { backend: backend() };
            let failing = report.list_failures.len() + usize::from(report.checks.failure.is_some());
            self.failing_lists.get_or_create(&labels).set(gauge_value(failing));
            self.tools.get_or_create(&labels).set(gauge_value(report.tool_count));
        }
    }
}

fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use vmcp_domain::{BackendState, BackendStatus, ListFailure};
    use vmcp_federation::HealthChecks;

    use super::*;

    fn report() -> BackendReport {
        BackendReport {
            id: "files".into(),
            status: BackendStatus {
                state: BackendState::Ready,
                transport: "stdio",
                protocol: None,
                last_error: None,
                connect_failure: None,
                reconnect_count: 0,
                auth_type: "unauthenticated",
                isolation: "shared",
                caller_connections: None,
                startup: None,
            },
            is_listed: true,
            is_stale: false,
            tool_count: 3,
            resource_count: 0,
            prompt_count: 0,
            caller_count: None,
            list_failures: Vec::new(),
            checks: HealthChecks::default(),
            circuit: None,
        }
    }

    #[test]
    fn a_failing_list_is_on_the_page_until_it_can_be_read() {
        let (metrics, mut registry) = (BackendMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let page = |reports: &[BackendReport]| {
            let mut page = String::new();
            metrics.set(reports);
            text::encode(&mut page, &registry).unwrap();
            page
        };
        let list = ListFailure { list: "prompts", class: "status", cause: "500".to_owned() };
        let failing = page(&[BackendReport { list_failures: vec![list], ..report() }]);
        for line in [
            r#"vmcp_backend_health{backend="files",health="degraded"} 1"#,
            r#"vmcp_backend_health{backend="files",health="healthy"} 0"#,
            r#"vmcp_backend_failing_lists{backend="files"} 1"#,
            r#"vmcp_backend_tools{backend="files"} 3"#,
        ] {
            assert!(failing.lines().any(|found| found == line), "{line} in {failing}");
        }
        let healthy = page(&[report()]);
        for line in [
            r#"vmcp_backend_health{backend="files",health="degraded"} 0"#,
            r#"vmcp_backend_failing_lists{backend="files"} 0"#,
        ] {
            assert!(healthy.lines().any(|found| found == line), "{line} in {healthy}");
        }
    }
}
