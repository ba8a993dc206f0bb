//! Calls out of audit records. Lines are read one by one and borrowed from; of a call a few numbers are kept.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, Read as _};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use vmcp_domain::{Caller, Identity, Members, Target, Tool, ToolHints, ToolOverride};
use vmcp_optimizer::VIRTUAL_NAMES;

use crate::audit::{LOST, TOOL_CALL, parse_time};

/// The longest line that is read: twice the most data that is recorded, escaped, and some.
const LINE_MAX: u64 = 16 << 20;

/// One call that came to the limiter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// When, in microseconds since 1970.
    pub(crate) at: u64,
    /// For how long it was in flight, in microseconds.
    pub(crate) lasted: u64,
    /// Its place among the tools.
    pub(crate) tool: u32,
    /// Its place among the callers.
    pub(crate) user: u32,
    /// It was refused then.
    pub(crate) was_refused: bool,
    /// What it had paid was given back.
    pub(crate) refunded: bool,
}

/// A caller of the record.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// The name in reports, as it stands in the record.
    pub(crate) label: String,
    pub(crate) caller: Caller,
    pub(crate) peer: Option<IpAddr>,
}

/// Why a line is no call to be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    NotJson,
    TooLong,
    NoTime,
    NoTool,
    OtherRequest,
    VirtualTool,
    NeverCharged,
}

impl Skip {
    const ALL: [Self; 7] = [
        Self::NotJson,
        Self::TooLong,
        Self::NoTime,
        Self::NoTool,
        Self::OtherRequest,
        Self::VirtualTool,
        Self::NeverCharged,
    ];

    /// The reason in words.
    pub(crate) fn reason(self) -> &'static str {
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

/// Lines that were passed over for one reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skipped {
    pub(crate) why: Skip,
    pub(crate) count: u64,
    /// The first such line, counted from one.
    pub(crate) first: u64,
}

/// Everything that was recorded.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) calls: Vec<Call>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) users: Vec<User>,
    pub(crate) skipped: Vec<Skipped>,
    /// Records that the writer could not write, by its own notes.
    pub(crate) lost: u64,
    tool_places: HashMap<Box<str>, u32>,
    user_places: HashMap<Box<str>, u32>,
    key: String,
}

impl Recorded {
    /// Reads to the end, and puts the calls into the order of time.
    ///
    /// # Errors
    /// When reading fails.
    pub(crate) fn read(mut input: impl BufRead) -> std::io::Result<Self> {
        let mut all = Self::default();
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            let size = (&mut input).take(LINE_MAX).read_until(b'\n', &mut line)?;
            if size == 0 {
                break;
            }
            number += 1;
            if line.last() != Some(&b'\n') && size as u64 == LINE_MAX {
                input.skip_until(b'\n')?;
                all.skip(Skip::TooLong, number);
            } else if !line.trim_ascii().is_empty()
                && let Err(why) = all.take(&line)
            {
                all.skip(why, number);
            }
        }
        // At the same microsecond whoever was admitted came first: a refusal spends nothing, so this is an order in which
        // the recorded decisions could have been made.
        all.calls.sort_by_key(|call| (call.at, call.was_refused));
        all.skipped.sort_by_key(|skipped| Skip::ALL.iter().position(|why| *why == skipped.why));
        Ok(all)
    }

    fn skip(&mut self, why: Skip, number: u64) {
        match self.skipped.iter_mut().find(|skipped| skipped.why == why) {
            Some(skipped) => skipped.count += 1,
            None => self.skipped.push(Skipped { why, count: 1, first: number }),
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Skip> {
        let record: Record<'_> = serde_json::from_slice(line).map_err(|_| Skip::NotJson)?;
        let extra = record.metadata.unwrap_or_default().extra.unwrap_or_default();
        match record.kind.as_ref().map(Text::as_str) {
            Some(TOOL_CALL) => {}
            Some(LOST) => {
                self.lost = self.lost.saturating_add(extra.count.unwrap_or(0));
                return Ok(());
            }
            Some(_) => return Err(Skip::OtherRequest),
            None => return Err(Skip::NotJson),
        }
        let target = record.target.unwrap_or_default();
        let name =
            target.name.as_ref().map(Text::as_str).filter(|name| !name.is_empty()).ok_or(Skip::NoTool)?;
        let outcome = record.outcome.as_ref().map_or("", Text::as_str);
        let limit = extra.rate_limit.unwrap_or_default();
        let backend = extra.backend_name.as_ref().map(Text::as_str).filter(|name| !name.is_empty());
        if backend.is_none() {
            if target.kind.is_some_and(|kind| kind.as_str() == "virtual_tool")
                || VIRTUAL_NAMES.contains(&name)
            {
                return Err(Skip::VirtualTool);
            }
            // The reference names the backend of some calls only, and has no time in microseconds.
            if extra.time_us.is_some() || outcome == "denied" {
                return Err(Skip::NeverCharged);
            }
        }
        let logged = || record.logged_at.as_ref().and_then(|text| parse_time(text.as_str()));
        let at = extra.time_us.or_else(logged).ok_or(Skip::NoTime)?;
        let own = extra.backend_tool.as_ref().map_or(name, Text::as_str);
        let tool = self.tool(name, backend.unwrap_or("unknown"), own);
        let user = self.user(&record.subjects.unwrap_or_default(), &record.source.unwrap_or_default());
        let lasted = extra.duration_us.unwrap_or_else(|| extra.duration_ms.unwrap_or(0).saturating_mul(1000));
        let decision = limit.decision.as_ref().map(Text::as_str);
        self.calls.push(Call {
            at,
            lasted: lasted.saturating_sub(limit.waited_us.unwrap_or(0)),
            tool,
            user,
            was_refused: decision == Some("refused") || outcome == "rate_limited",
            refunded: limit.refunded.unwrap_or(false),
        });
        Ok(())
    }

    /// The place of a tool, which is a new one where it is first met.
    fn tool(&mut self, name: &str, backend: &str, own: &str) -> u32 {
        spell(&mut self.key, &[name, backend, own]);
        if let Some(place) = self.tool_places.get(&*self.key) {
            return *place;
        }
        let place = u32::try_from(self.tools.len()).unwrap_or(u32::MAX);
        self.tools.push(Tool {
            name: name.into(),
            target: Target { backend: backend.into(), name: own.into() },
            description: None,
            hints: ToolHints::default(),
            definition: Arc::default(),
            overrides: ToolOverride::default(),
        });
        self.tool_places.insert(self.key.as_str().into(), place);
        place
    }

    /// The place of a caller.
    fn user(&mut self, subjects: &Subjects<'_>, source: &Source<'_>) -> u32 {
        let subject = subjects.user_id.as_ref().map(Text::as_str).filter(|subject| !subject.is_empty());
        // No real issuer is empty to the limiter, and the reference names none.
        let issuer = subjects.issuer.as_ref().map(Text::as_str).filter(|issuer| !issuer.is_empty());
        let issuer = issuer.unwrap_or("unknown");
        let address = source.value.as_ref().map_or("", Text::as_str);
        match subject {
            Some(subject) => spell(&mut self.key, &[issuer, subject]),
            None => spell(&mut self.key, &[address]),
        }
        if let Some(place) = self.user_places.get(&*self.key) {
            return *place;
        }
        let place = u32::try_from(self.users.len()).unwrap_or(u32::MAX);
        let peer: Option<IpAddr> = address.parse().ok();
        self.users.push(match (subject, peer) {
            (Some(subject), _) => {
                let identity = Identity {
                    issuer: issuer.to_owned(),
                    subject: subject.to_owned(),
                    claims: Members::new(),
                };
                User {
                    label: format!("{subject} ({issuer})"),
                    caller: Caller::Known(identity.into()),
                    peer: None,
                }
            }
            (None, Some(address)) => {
                User { label: format!("anonymous from {address}"), caller: Caller::Anonymous, peer }
            }
            (None, None) => User { label: "anonymous".to_owned(), caller: Caller::Anonymous, peer: None },
        });
        self.user_places.insert(self.key.as_str().into(), place);
        place
    }
}

/// Writes parts so that no two lists of parts come to the same text.
fn spell(key: &mut String, parts: &[&str]) {
    key.clear();
    for part in parts {
        // Writing into a string does not fail.
        let _ = write!(key, "{}:{part}", part.len());
    }
}

/// Text borrowed from the line wherever it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    logged_at: Option<Text<'a>>,
    outcome: Option<Text<'a>>,
    source: Option<Source<'a>>,
    subjects: Option<Subjects<'a>>,
    target: Option<Called<'a>>,
    metadata: Option<Metadata<'a>>,
}

#[derive(Default, Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    value: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Subjects<'a> {
    #[serde(borrow)]
    user_id: Option<Text<'a>>,
    issuer: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Called<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    name: Option<Text<'a>>,
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
    backend_name: Option<Text<'a>>,
    backend_tool: Option<Text<'a>>,
    rate_limit: Option<Limit<'a>>,
    /// How many records are missing, in a note of the writer.
    count: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Limit<'a> {
    #[serde(borrow)]
    decision: Option<Text<'a>>,
    refunded: Option<bool>,
    waited_us: Option<u64>,
}
