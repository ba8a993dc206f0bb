//! Reads calls from audit records, line by line. A line is borrowed while it is parsed; only a few numbers of
//! each call are stored.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, Read as _};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use vmcp_domain::{CALL_TOOL, Caller, FIND_TOOL, Identity, RoutingTarget, Tool, ToolHints, ToolOverride};
use vmcp_json::Members;

use vmcp_audit::{RECORDS_LOST, TOOL_CALL, parse_time};

/// The longest line that is read, in bytes. It leaves room for twice the most data that a record can hold,
/// escaped, and more.
const LINE_MAX: u64 = 16 << 20;

/// One call that reached the limiter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordedCall {
    /// The start, in microseconds since 1970.
    pub(crate) time_us: u64,
    /// How long the call was in flight, in microseconds. The wait for limits is subtracted.
    pub(crate) duration_us: u64,
    /// The index in [`RecordedCalls::tools`].
    pub(crate) tool_index: u32,
    /// The index in [`RecordedCalls::users`].
    pub(crate) user_index: u32,
    /// The call was refused when it was recorded.
    pub(crate) was_refused: bool,
    /// Its tokens were refunded.
    pub(crate) refunded: bool,
}

/// A caller in the records.
#[derive(Clone, Debug)]
pub(crate) struct RecordedUser {
    /// The name in reports: subject and issuer, or the address of an anonymous caller.
    pub(crate) label: String,
    pub(crate) caller: Caller,
    pub(crate) peer: Option<IpAddr>,
}

/// The reason why a line is no call that can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SkipReason {
    NotJson,
    TooLong,
    NoTime,
    NoTool,
    OtherRequest,
    VirtualTool,
    NeverCharged,
}

impl SkipReason {
    const ALL: [Self; 7] = [
        Self::NotJson,
        Self::TooLong,
        Self::NoTime,
        Self::NoTool,
        Self::OtherRequest,
        Self::VirtualTool,
        Self::NeverCharged,
    ];

    /// The reason as text for the report.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::NotJson => "no JSON object of an audit record",
            Self::TooLong => "longer than 16 MiB",
            Self::NoTime => "no time",
            Self::NoTool => "a tool call without the tool's name",
            Self::OtherRequest => "not a tool call",
            Self::VirtualTool => "a call of the gateway's own tools",
            Self::NeverCharged => "denied, or otherwise ended before any limit",
        }
    }
}

/// The lines that were skipped for one reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skipped {
    pub(crate) reason: SkipReason,
    pub(crate) count: u64,
    /// The number of the first such line, counted from 1.
    pub(crate) first_line: u64,
}

/// The calls of all records, with their tools and users.
#[derive(Default)]
pub(crate) struct RecordedCalls {
    pub(crate) calls: Vec<RecordedCall>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) users: Vec<RecordedUser>,
    pub(crate) skipped: Vec<Skipped>,
    /// The number of records that the writer could not write, summed over its notes.
    pub(crate) lost_count: u64,
    tool_indices: HashMap<Box<str>, u32>,
    user_indices: HashMap<Box<str>, u32>,
    key_buffer: String,
}

impl RecordedCalls {
    /// Reads to the end and sorts the calls by time.
    ///
    /// # Errors
    /// If reading fails.
    pub(crate) fn read(mut input: impl BufRead) -> std::io::Result<Self> {
        let mut all = Self::default();
        let (mut line, mut line_number) = (Vec::new(), 0);
        loop {
            line.clear();
            let size = (&mut input).take(LINE_MAX).read_until(b'\n', &mut line)?;
            if size == 0 {
                break;
            }
            line_number += 1;
            if line.last() != Some(&b'\n') && size as u64 == LINE_MAX {
                input.skip_until(b'\n')?;
                all.count_skipped(SkipReason::TooLong, line_number);
            } else if !line.trim_ascii().is_empty()
                && let Err(reason) = all.read_record(&line)
            {
                all.count_skipped(reason, line_number);
            }
        }
        // Among calls in the same microsecond, admitted calls come first. A refusal spends no tokens, so the
        // recorded decisions are possible in this order.
        all.calls.sort_by_key(|call| (call.time_us, call.was_refused));
        all.skipped
            .sort_by_key(|skipped| SkipReason::ALL.iter().position(|reason| *reason == skipped.reason));
        Ok(all)
    }

    fn count_skipped(&mut self, reason: SkipReason, line_number: u64) {
        match self.skipped.iter_mut().find(|skipped| skipped.reason == reason) {
            Some(skipped) => skipped.count += 1,
            None => self.skipped.push(Skipped { reason, count: 1, first_line: line_number }),
        }
    }

    fn read_record(&mut self, line: &[u8]) -> Result<(), SkipReason> {
        let record: Record<'_> = serde_json::from_slice(line).map_err(|_| SkipReason::NotJson)?;
        let extra = record.metadata.unwrap_or_default().extra.unwrap_or_default();
        match record.kind.as_ref().map(BorrowedText::as_str) {
            Some(TOOL_CALL) => {}
            Some(RECORDS_LOST) => {
                self.lost_count = self.lost_count.saturating_add(extra.count.unwrap_or(0));
                return Ok(());
            }
            Some(_) => return Err(SkipReason::OtherRequest),
            None => return Err(SkipReason::NotJson),
        }
        let target = record.target.unwrap_or_default();
        let name = target
            .name
            .as_ref()
            .map(BorrowedText::as_str)
            .filter(|name| !name.is_empty())
            .ok_or(SkipReason::NoTool)?;
        let outcome = record.outcome.as_ref().map_or("", BorrowedText::as_str);
        let limit = extra.rate_limit.unwrap_or_default();
        let backend = extra.backend_name.as_ref().map(BorrowedText::as_str).filter(|name| !name.is_empty());
        if backend.is_none() {
            if target.kind.is_some_and(|kind| kind.as_str() == "virtual_tool")
                || [FIND_TOOL, CALL_TOOL].contains(&name)
            {
                return Err(SkipReason::VirtualTool);
            }
            // ToolHive names the backend of some calls only, and it writes no time in microseconds.
            if extra.time_us.is_some() || outcome == "denied" {
                return Err(SkipReason::NeverCharged);
            }
        }
        let logged_at = || record.logged_at.as_ref().and_then(|text| parse_time(text.as_str()));
        let at = extra.time_us.or_else(logged_at).ok_or(SkipReason::NoTime)?;
        let backend_tool = extra.backend_tool.as_ref().map_or(name, BorrowedText::as_str);
        let tool = self.tool_index(name, backend.unwrap_or("unknown"), backend_tool);
        let user = self.user_index(&record.subjects.unwrap_or_default(), &record.source.unwrap_or_default());
        let duration_us =
            extra.duration_us.unwrap_or_else(|| extra.duration_ms.unwrap_or(0).saturating_mul(1000));
        let decision = limit.decision.as_ref().map(BorrowedText::as_str);
        self.calls.push(RecordedCall {
            time_us: at,
            duration_us: duration_us.saturating_sub(limit.waited_us.unwrap_or(0)),
            tool_index: tool,
            user_index: user,
            was_refused: decision == Some("refused") || outcome == "rate_limited",
            refunded: limit.refunded.unwrap_or(false),
        });
        Ok(())
    }

    /// Returns the index of a tool and adds the tool if it is new.
    fn tool_index(&mut self, name: &str, backend: &str, backend_tool: &str) -> u32 {
        write_key(&mut self.key_buffer, &[name, backend, backend_tool]);
        if let Some(index) = self.tool_indices.get(&*self.key_buffer) {
            return *index;
        }
        let index = u32::try_from(self.tools.len()).unwrap_or(u32::MAX);
        self.tools.push(Tool {
            contested_name: None,
            name: name.into(),
            target: RoutingTarget { backend: backend.into(), name: backend_tool.into() },
            description: None,
            hints: ToolHints::default(),
            definition: Arc::default(),
            overrides: ToolOverride::default(),
        });
        self.tool_indices.insert(self.key_buffer.as_str().into(), index);
        index
    }

    /// Returns the index of a caller and adds the caller if it is new.
    fn user_index(&mut self, subjects: &Subjects<'_>, source: &Source<'_>) -> u32 {
        let subject =
            subjects.user_id.as_ref().map(BorrowedText::as_str).filter(|subject| !subject.is_empty());
        // ToolHive's records have no issuer. The limiter needs one that is not empty.
        let issuer = subjects.issuer.as_ref().map(BorrowedText::as_str).filter(|issuer| !issuer.is_empty());
        let issuer = issuer.unwrap_or("unknown");
        let address = source.value.as_ref().map_or("", BorrowedText::as_str);
        match subject {
            Some(subject) => write_key(&mut self.key_buffer, &[issuer, subject]),
            None => write_key(&mut self.key_buffer, &[address]),
        }
        if let Some(index) = self.user_indices.get(&*self.key_buffer) {
            return *index;
        }
        let index = u32::try_from(self.users.len()).unwrap_or(u32::MAX);
        let peer: Option<IpAddr> = address.parse().ok();
        self.users.push(match (subject, peer) {
            (Some(subject), _) => {
                let identity = Identity {
                    issuer: issuer.to_owned(),
                    subject: subject.to_owned(),
                    claims: Members::new(),
                };
                RecordedUser {
                    label: format!("{subject} ({issuer})"),
                    caller: Caller::Known(identity.into()),
                    peer: None,
                }
            }
            (None, Some(address)) => {
                RecordedUser { label: format!("anonymous from {address}"), caller: Caller::Anonymous, peer }
            }
            (None, None) => {
                RecordedUser { label: "anonymous".to_owned(), caller: Caller::Anonymous, peer: None }
            }
        });
        self.user_indices.insert(self.key_buffer.as_str().into(), index);
        index
    }
}

/// Writes the parts with their lengths, so that two different lists of parts never have the same key.
fn write_key(key: &mut String, parts: &[&str]) {
    key.clear();
    for part in parts {
        // Writing into a string cannot fail.
        let _ = write!(key, "{}:{part}", part.len());
    }
}

/// A string that is borrowed from the line unless it contains escapes.
#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

impl BorrowedText<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<BorrowedText<'a>>,
    logged_at: Option<BorrowedText<'a>>,
    outcome: Option<BorrowedText<'a>>,
    source: Option<Source<'a>>,
    subjects: Option<Subjects<'a>>,
    target: Option<RecordTarget<'a>>,
    metadata: Option<Metadata<'a>>,
}

#[derive(Default, Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    value: Option<BorrowedText<'a>>,
}

#[derive(Default, Deserialize)]
struct Subjects<'a> {
    #[serde(borrow)]
    user_id: Option<BorrowedText<'a>>,
    issuer: Option<BorrowedText<'a>>,
}

#[derive(Default, Deserialize)]
struct RecordTarget<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<BorrowedText<'a>>,
    name: Option<BorrowedText<'a>>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    extra: Option<Extra<'a>>,
}

#[derive(Default, Deserialize)]
struct Extra<'a> {
    time_us: Option<u64>,
    duration_us: Option<u64>,
    duration_ms: Option<u64>,
    #[serde(borrow)]
    backend_name: Option<BorrowedText<'a>>,
    backend_tool: Option<BorrowedText<'a>>,
    rate_limit: Option<RateLimitOutcome<'a>>,
    /// The number of missing records, in a note of the writer.
    count: Option<u64>,
}

#[derive(Default, Deserialize)]
struct RateLimitOutcome<'a> {
    #[serde(borrow)]
    decision: Option<BorrowedText<'a>>,
    refunded: Option<bool>,
    waited_us: Option<u64>,
}
