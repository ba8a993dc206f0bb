//! On a terminal, says which servers the gateway is waiting for after its start.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use vmcp_federation::{BackendReport, Federation};

use crate::terminal;

/// When the lines are printed, after the start. A usual start prints none.
const MOMENTS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(14)];
/// The most servers that one line names.
const NAMES_MAX: usize = 3;

/// Prints a line at each moment at which some server has neither answered nor failed, if standard error is a
/// terminal.
pub(crate) fn show(federation: &Federation) {
    if !io::stderr().is_terminal() {
        return;
    }
    let federation = federation.clone();
    tokio::spawn(async move {
        let started_at = tokio::time::Instant::now();
        for moment in MOMENTS {
            tokio::time::sleep_until(started_at + moment).await;
            let Some(line) = waiting_line(&federation.reports()) else { return };
            terminal::print_error(format_args!("vmcp: {line}"));
        }
    });
}

/// The line about the servers that have neither answered nor failed. `None` if there is none.
fn waiting_line(reports: &[BackendReport]) -> Option<String> {
    let waiting: Vec<&BackendReport> = reports.iter().filter(|report| report.is_awaited()).collect();
    let mut line = match waiting.len() {
        0 => return None,
        1 => "waiting for ".to_owned(),
        count => format!("waiting for {count} of {} servers: ", reports.len()),
    };
    for (index, report) in waiting.iter().take(NAMES_MAX).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing into a string cannot fail.
        let _ = write!(line, "{separator}`{}`", report.id);
        if let Some(last) = report.status.startup.as_ref().and_then(|starting| starting.last_line.as_ref()) {
            let _ = write!(line, " (its last line: {last})");
        }
    }
    if waiting.len() > NAMES_MAX {
        line.push_str(", …");
    }
    Some(line)
}
