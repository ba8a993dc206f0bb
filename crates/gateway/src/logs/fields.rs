//! Formats the fields of spans as JSON text. A field that is recorded later is appended. The formatter of
//! `tracing_subscriber` would parse all earlier fields for each new one, and every tool call records several.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, FormattedFields};
use vmcp_domain::escape_controls;

/// The initial capacity in bytes, enough for the fields of most spans.
const FIELDS_BYTES: usize = 96;

/// Writes fields as the members of one JSON object.
#[derive(Debug)]
pub(super) struct JsonFields;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut out = String::with_capacity(FIELDS_BYTES);
        out.push('{');
        write_members(&mut out, |visitor| fields.record(visitor))?;
        out.push('}');
        writer.write_str(&out)
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let open = current.fields.strip_suffix('}').unwrap_or("{").len();
        if current.fields.is_empty() {
            current.fields.push('{');
        } else {
            current.fields.truncate(open);
        }
        write_members(&mut current.fields, |visitor| fields.record(visitor))?;
        current.fields.push('}');
        Ok(())
    }
}

/// Writes fields for people, as `message name=value`. Control characters in values are escaped, so values
/// cannot set colours.
#[derive(Debug)]
pub(super) struct HumanFields;

impl<'writer> FormatFields<'writer> for HumanFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut values = HumanVisitor { writer, is_empty: true, outcome: Ok(()) };
        fields.record(&mut values);
        values.outcome
    }
}

struct HumanVisitor<'a> {
    writer: Writer<'a>,
    is_empty: bool,
    outcome: fmt::Result,
}

impl Visit for HumanVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let text = escape_controls(&text);
        let blank = if std::mem::take(&mut self.is_empty) { "" } else { " " };
        self.outcome = self.outcome.and_then(|()| match field.name() {
            "message" => write!(self.writer, "{blank}{text}"),
            name => write!(self.writer, "{blank}{}={text}", name.trim_start_matches("r#")),
        });
    }
}

fn write_members(out: &mut String, record: impl FnOnce(&mut JsonVisitor<'_>)) -> fmt::Result {
    let mut members = JsonVisitor { out, outcome: Ok(()) };
    record(&mut members);
    members.outcome
}

/// Appends `"name":value` members to an unfinished JSON object.
struct JsonVisitor<'a> {
    out: &'a mut String,
    outcome: fmt::Result,
}

impl JsonVisitor<'_> {
    fn member(&mut self, field: &Field, write: impl FnOnce(&mut String) -> fmt::Result) {
        // Field names are identifiers with dots, so they need no escaping.
        let name = field.name().trim_start_matches("r#");
        if self.outcome.is_ok() {
            // Appends piece by piece, because every call does this and formatting costs more than copying.
            self.out.push_str(if self.out.ends_with('{') { "\"" } else { ",\"" });
            self.out.push_str(name);
            self.out.push_str("\":");
            self.outcome = write(self.out);
        }
    }
}

fn write_string(out: &mut String, text: &str) -> fmt::Result {
    out.push('"');
    JsonStringEscaper(out).write_str(text)?;
    out.push('"');
    Ok(())
}

/// Escapes text for the inside of a JSON string.
struct JsonStringEscaper<'a>(&'a mut String);

impl fmt::Write for JsonStringEscaper<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                c if c < ' ' => write!(self.0, "\\u{:04x}", u32::from(c))?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

impl Visit for JsonVisitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, |out| {
            // JSON has no infinity and no NaN.
            if value.is_finite() { write!(out, "{value}") } else { write!(out, "null") }
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |out| write!(out, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |out| write!(out, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |out| {
            out.push_str(if value { "true" } else { "false" });
            Ok(())
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |out| write_string(out, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |out| {
            out.push('"');
            write!(JsonStringEscaper(out), "{value:?}")?;
            out.push('"');
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{HumanFields, JsonFields};
    use crate::logs::tests::SharedBuffer;

    #[test]
    fn what_is_recorded_later_stands_beside_the_rest() {
        let lines = SharedBuffer::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).json().flatten_event(true);
        let subscriber = subscriber.with_current_span(false).fmt_fields(JsonFields).finish();
        tracing::subscriber::with_default(subscriber, || {
            let empty = tracing::info_span!("empty", later = tracing::field::Empty);
            let span = tracing::info_span!(
                parent: &empty,
                "call",
                tool = %"a \"quoted\"\n\\ name",
                count = 3,
                share = 0.5,
                a.decision = tracing::field::Empty,
                a.open = tracing::field::Empty,
            );
            span.record("a.decision", "allowed");
            span.record("a.open", false);
            empty.record("later", 1);
            span.in_scope(|| tracing::info!("hello"));
        });
        let line: serde_json::Value = serde_json::from_str(&lines.text()).unwrap();
        let spans = serde_json::json!([
            {"name": "empty", "later": 1},
            {"name": "call", "tool": "a \"quoted\"\n\\ name", "count": 3, "share": 0.5, "a.decision": "allowed", "a.open": false}
        ]);
        assert_eq!(line["spans"], spans);
    }

    #[test]
    fn a_value_sets_no_colour() {
        let lines = SharedBuffer::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(true).without_time();
        tracing::subscriber::with_default(subscriber.fmt_fields(HumanFields).finish(), || {
            let span = tracing::info_span!("call", tool = %"a\x1b[8mb");
            span.in_scope(|| tracing::info!(cause = %"c\x1b[8md\u{9b}0m", count = 3, "said {}", "e\x1b[8mf"));
        });
        let text = lines.text();
        assert!(!text.contains("\x1b[8m") && !text.contains('\u{9b}'), "{text:?}");
        assert!(text.contains("said e\\u001b[8mf cause=c\\u001b[8md\\u009b0m count=3"), "{text:?}");
        assert!(text.contains("tool=a\\u001b[8mb"), "{text:?}");
    }
}
