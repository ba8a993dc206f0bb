//! Trace context: in `_meta` between MCP peers, in headers over HTTP, with the same three values. Sources:
//! 2026-07-28, Overview, "OpenTelemetry trace context"; W3C Trace Context; W3C Baggage.

use vmcp_json::{Json, Members};

/// The parent span. Without it the other two are ignored.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// Data that tracing systems add.
pub(crate) const TRACESTATE: &str = "tracestate";
/// Data that applications add.
pub(crate) const BAGGAGE: &str = "baggage";
/// The header and `_meta` names that accompany the parent.
const COMPANIONS: [&str; 2] = [TRACESTATE, BAGGAGE];
/// The longest value that is copied between `_meta` and a header, in bytes (W3C Baggage, "Limits").
const VALUE_BYTES_MAX: usize = 8192;

/// Copies a request's trace headers into its forwarded `_meta`. A `traceparent` in the body has precedence:
/// then nothing is copied.
pub fn from_headers<'a>(travelling: &mut Members, header: impl Fn(&str) -> Option<&'a str>) {
    let Some(parent) = header(TRACEPARENT).filter(|parent| is_traceparent(parent)) else { return };
    if travelling.get(TRACEPARENT).is_some() {
        return;
    }
    travelling.insert(TRACEPARENT, Json::string(parent));
    for name in COMPANIONS {
        if let Some(value) = header(name).filter(|value| value.len() <= VALUE_BYTES_MAX) {
            travelling.insert(name, Json::string(value));
        }
    }
}

/// The headers that repeat the trace context in `travelling`; empty without a valid parent.
pub fn to_headers(travelling: &Members) -> Vec<(&'static str, String)> {
    let text = |name| travelling.get(name).and_then(Json::decode_string);
    let Some(parent) = text(TRACEPARENT).filter(|parent| is_traceparent(parent)) else { return Vec::new() };
    let companions = COMPANIONS.into_iter().filter_map(|name| {
        let value = text(name).filter(|value| value.len() <= VALUE_BYTES_MAX)?;
        Some((name, value))
    });
    std::iter::once((TRACEPARENT, parent)).chain(companions).collect()
}

/// True for a `traceparent` of the W3C form: version, trace, span and flags in lower-case hex, where trace
/// and span are not all zero.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        parts.next().filter(|part| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let (version, trace, span, flags) = (hex(2), hex(32), hex(16), hex(2));
    let named = |part: Option<&str>| part.is_some_and(|part| part.bytes().any(|byte| byte != b'0'));
    // Version 00 has exactly four fields; later versions may have more.
    let known = version.is_some_and(|version| version != "ff") && flags.is_some();
    known && named(trace) && named(span) && (version != Some("00") || parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

    #[test]
    fn headers_and_meta_say_the_same() {
        let headers = [("traceparent", GOOD), ("tracestate", "a=1"), ("baggage", "user=x")];
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let mut travelling = Members::new();
        from_headers(&mut travelling, header);
        assert_eq!(to_headers(&travelling), headers.map(|(name, value)| (name, value.to_owned())));
        let mut own: Members = [("traceparent".to_owned(), Json::string("mine"))].into_iter().collect();
        from_headers(&mut own, header);
        assert_eq!(own.to_json().as_str(), r#"{"traceparent":"mine"}"#, "the body counts more");
        assert!(to_headers(&own).is_empty(), "and what is no trace context becomes no header");
    }

    #[test]
    fn only_a_valid_parent_counts() {
        for (parent, valid) in [
            (GOOD, true),
            ("01-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01-more", true),
            ("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01-more", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-00f067aa0ba902b7-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7", false),
            ("", false),
        ] {
            assert_eq!(is_traceparent(parent), valid, "{parent}");
        }
    }
}
