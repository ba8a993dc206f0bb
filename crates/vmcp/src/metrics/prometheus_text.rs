//! Converts OpenMetrics to the older Prometheus text format (version 0.0.4). In that format the comments also
//! name a counter with its suffix `_total`, and there are no `UNIT` lines and no `EOF` mark.

use std::collections::HashSet;
use std::fmt::Write as _;

/// Converts an OpenMetrics page to the older format.
pub(super) fn from_openmetrics(page: &str) -> String {
    let counters: HashSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(page.len());
    for line in page.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        let written = match comment {
            Some((kind @ ("HELP" | "TYPE"), rest)) => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let suffix = if counters.contains(name) { "_total" } else { "" };
                let text = if text == "unknown" { "untyped" } else { text };
                writeln!(out, "# {kind} {name}{suffix} {text}")
            }
            Some(("UNIT", _)) => Ok(()),
            _ if line == "# EOF" => Ok(()),
            _ => writeln!(out, "{line}"),
        };
        // Writing into a string cannot fail.
        let _ = written;
    }
    out
}

/// Returns true if `accept` asks for the older format and not for OpenMetrics.
pub(super) fn is_wanted(accept: &str) -> bool {
    let accept = accept.to_ascii_lowercase();
    accept.contains("text/plain") && !accept.contains("application/openmetrics-text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_suffix_and_nothing_ends_the_page() {
        let page = "# HELP a Things.\n# TYPE a counter\na_total{x=\"# TYPE a counter\"} 1\n\
                    # HELP b_seconds Time.\n# TYPE b_seconds histogram\n# UNIT b_seconds seconds\n\
                    b_seconds_sum 1.0\n# TYPE g gauge\ng 2\n# EOF\n";
        let plain = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"# TYPE a counter\"} 1\n\
                     # HELP b_seconds Time.\n# TYPE b_seconds histogram\n\
                     b_seconds_sum 1.0\n# TYPE g gauge\ng 2\n";
        assert_eq!(from_openmetrics(page), plain);
    }

    #[test]
    fn the_older_format_is_for_those_who_ask_for_it_alone() {
        for (accept, wanted) in [
            ("", false),
            ("*/*", false),
            ("text/plain; version=0.0.4", true),
            ("text/plain", true),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                false,
            ),
        ] {
            assert_eq!(is_wanted(accept), wanted, "{accept}");
        }
    }
}
