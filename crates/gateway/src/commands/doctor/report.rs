//! The report of `vmcp doctor`: sections of results, as text or as JSON.

use std::fmt::Write as _;

use serde_json::json;

use crate::commands::explain;
use crate::terminal;

/// The outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Pass,
    Note,
    Warning,
    Failure,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "ok",
            Self::Note => "note",
            Self::Warning => "warn",
            Self::Failure => "FAIL",
        }
    }

    /// The number of the colour in ANSI escape sequences.
    fn colour(self) -> Option<u8> {
        match self {
            Self::Pass => Some(32),
            Self::Note => None,
            Self::Warning => Some(33),
            Self::Failure => Some(31),
        }
    }
}

struct Entry {
    status: Status,
    text: String,
    code: Option<&'static str>,
}

/// The results of the checks of one subject.
pub(super) struct Section {
    title: &'static str,
    entries: Vec<Entry>,
}

impl Section {
    pub(super) fn new(title: &'static str) -> Self {
        Self { title, entries: Vec::new() }
    }

    fn push(&mut self, status: Status, code: Option<&'static str>, text: String) {
        self.entries.push(Entry { status, text, code });
    }

    pub(super) fn pass(&mut self, text: impl Into<String>) {
        self.push(Status::Pass, None, text.into());
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.push(Status::Note, None, text.into());
    }

    pub(super) fn warn(&mut self, code: &'static str, text: impl Into<String>) {
        self.push(Status::Warning, Some(code), text.into());
    }

    pub(super) fn fail(&mut self, code: &'static str, text: impl Into<String>) {
        self.push(Status::Failure, Some(code), text.into());
    }
}

/// All sections.
pub(super) struct Report(Vec<Section>);

impl Report {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a section, if it has a result.
    pub(super) fn add(&mut self, section: Section) {
        if !section.entries.is_empty() {
            self.0.push(section);
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().flat_map(|section| &section.entries)
    }

    fn count(&self, status: Status) -> usize {
        self.entries().filter(|entry| entry.status == status).count()
    }

    pub(super) fn has_failure(&self) -> bool {
        self.count(Status::Failure) > 0
    }

    pub(super) fn to_text(&self) -> String {
        let mut out = format!("vmcp doctor, version {}\n", env!("CARGO_PKG_VERSION"));
        for section in &self.0 {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "\n{}", section.title);
            for Entry { status, text, code } in &section.entries {
                let mark = terminal::coloured(&format!("{:4}", status.as_str()), status.colour());
                let code = code.map(|code| format!("  [{code}]")).unwrap_or_default();
                let _ = writeln!(out, "  {mark}  {}{code}", text.replace('\n', "\n        "));
            }
        }
        let (failures, warnings) = (self.count(Status::Failure), self.count(Status::Warning));
        let _ = write!(out, "\n{failures} failed, {warnings} warnings");
        let advice = explain::advice(self.entries().filter_map(|entry| entry.code));
        let _ = writeln!(out, "{}{advice}", if advice.is_empty() { "" } else { "; " });
        out
    }

    pub(super) fn to_json(&self) -> String {
        let entry = |entry: &Entry| json!({"status": entry.status.as_str().to_lowercase(), "text": entry.text, "code": entry.code});
        let sections = self.0.iter().map(|section| {
            json!({"title": section.title, "results": section.entries.iter().map(entry).collect::<Vec<_>>()})
        });
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "failed": self.count(Status::Failure),
            "warnings": self.count(Status::Warning),
            "sections": sections.collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    }
}
