//! Reading what a backend answers over HTTP within bounds: one message whole, or events one by one.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use vmcp_domain::Json;
use vmcp_wire::jsonrpc::{self, Id, Message, Unreadable};
use vmcp_wire::sse::{self, Decoder};

use crate::arriving::Arriving;
use crate::failure::{Class, Failure, chain};
use crate::http::{Carries, carries, content_type};
use crate::large_buffer::{LARGE_BYTES, LargeBuffer};
use crate::policy::RESPONSE_BYTES_MAX;

/// How much of an error page is read to find a message in it.
pub(crate) const ERROR_BYTES_MAX: usize = 64 << 10;

/// The most that is set aside for a body because of its announced length.
const RESERVED_MAX: usize = 1 << 20;

/// Reads a whole body. A body of one piece is not copied.
pub(crate) async fn whole(mut body: Arriving, bytes_max: usize) -> Result<Bytes, Failure> {
    let too_large = || Failure::broken(Class::TooLarge, "the answer is larger than allowed");
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut large: Option<LargeBuffer> = None;
    let no_memory =
        |error| Failure::broken(Class::TooLarge, format_args!("no memory for the answer: {error}"));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::broken(Class::Exited, chain(&*error)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let held = large.as_ref().map_or(first.len() + rest.len(), LargeBuffer::len);
        let total = held + data.len();
        if total > bytes_max {
            return Err(too_large());
        }
        if large.is_none() && total >= LARGE_BYTES {
            let mut buffer = LargeBuffer::new(announced.max(total * 2)).map_err(no_memory)?;
            buffer.extend(&std::mem::take(&mut first)).map_err(no_memory)?;
            buffer.extend(&std::mem::take(&mut rest)).map_err(no_memory)?;
            large = Some(buffer);
        }
        if let Some(buffer) = &mut large {
            buffer.extend(&data).map_err(no_memory)?;
        } else if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                // The announced length saves growing, within reason: it is only announced.
                rest.reserve(announced.min(RESERVED_MAX));
            }
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok(match large {
        Some(buffer) => buffer.freeze(),
        None if rest.is_empty() => first,
        None => rest.freeze(),
    })
}

/// Reads a body and finds the outcome of request `id` in it.
pub(crate) async fn outcome(body: Arriving, id: u64) -> Result<Json, Failure> {
    let bytes = whole(body, RESPONSE_BYTES_MAX).await?;
    let mut found = None;
    let mut fault = None;
    jsonrpc::hear(bytes, |message| match message {
        Ok(Message::Response { id: of, outcome }) if answers(of.as_ref(), id, outcome.is_err()) => {
            found.get_or_insert(outcome.map_err(Failure::Refused));
        }
        Ok(Message::Response { .. }) => {
            fault.get_or_insert_with(|| "the answer belongs to another request".to_owned());
        }
        // What comes beside the answer in a batch.
        Ok(Message::Request { .. } | Message::Notification { .. }) => {}
        Err(unreadable) => drop(fault.get_or_insert(unreadable.cause)),
    });
    let fault = || fault.unwrap_or_else(|| "it holds no answer".to_owned());
    found.unwrap_or_else(|| Err(Failure::broken(Class::Protocol, format_args!("the answer: {}", fault()))))
}

/// True when a response answers request `id`. A server that could not read the identifier sends none with its error.
pub(crate) fn answers(found: Option<&Id>, id: u64, is_error: bool) -> bool {
    match found {
        Some(found) => found.as_number() == Some(id),
        None => is_error,
    }
}

/// What a body is, by its first byte where that contradicts the content type.
///
/// # Errors
/// When it is plainly something else, such as an HTML page.
pub(crate) async fn look(response: Response<Arriving>) -> Result<(Carries, Arriving), Failure> {
    /// Enough for a byte order mark and the name of a field.
    const START_BYTES: usize = 16;
    let declared = carries(&response);
    let (head, mut body) = response.into_parts();
    let mut start = body.peek(1).await?;
    if start.len() < START_BYTES && (start.trim_ascii_start().is_empty() || start.starts_with(b"\xef")) {
        start = body.peek(START_BYTES).await?;
    }
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let found = match start.first() {
        Some(b'<') => {
            let cause = format!("the answer is a page of HTML or XML ({})", content_type(&head.headers));
            return Err(Failure::broken(Class::Protocol, cause));
        }
        Some(b'{' | b'[') => Carries::Message,
        Some(_)
            if [&b"event:"[..], b"data:", b"id:", b"retry:"].iter().any(|field| start.starts_with(field)) =>
        {
            Carries::Events
        }
        Some(_) | None => declared,
    };
    if found != declared {
        tracing::debug!(
            kind = content_type(&head.headers),
            ?found,
            "the answer is not what its content type says"
        );
    }
    Ok((found, body))
}

/// A body that is a stream of events.
pub(crate) struct Events {
    body: Arriving,
    decoder: Decoder,
    ready: VecDeque<sse::Event>,
    bytes_left: Option<usize>,
    /// The identifier of the last event that had one, from which the stream can be taken up again.
    pub(crate) last_id: Option<String>,
}

impl Events {
    /// Reads events; each is bounded, and all of them together unless the stream is `endless`.
    pub(crate) fn new(body: Arriving, endless: bool) -> Self {
        Self {
            body,
            decoder: Decoder::new(RESPONSE_BYTES_MAX),
            ready: VecDeque::new(),
            bytes_left: (!endless).then_some(RESPONSE_BYTES_MAX),
            last_id: None,
        }
    }

    /// The next event; `None` at the end of the stream. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<sse::Event>, Failure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if event.id.is_some() {
                    self.last_id.clone_from(&event.id);
                }
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else {
                // Some servers end the stream without the blank line that ends an event. An event that broke off in
                // the middle comes again when the stream is taken up.
                return Ok(self.decoder.finish().filter(holds_a_message));
            };
            let frame = frame.map_err(|error| Failure::broken(Class::Exited, chain(&*error)))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if let Some(left) = &mut self.bytes_left {
                *left = left
                    .checked_sub(data.len())
                    .ok_or_else(|| Failure::broken(Class::TooLarge, "the answer is larger than allowed"))?;
            }
            let mut events = Vec::new();
            self.decoder.push(&data, &mut events).map_err(|fault| Failure::broken(Class::Protocol, fault))?;
            self.ready.extend(events);
        }
    }

    /// The stream itself, for reading what is left of it.
    pub(crate) fn into_body(self) -> Arriving {
        self.body
    }
}

fn holds_a_message(event: &sse::Event) -> bool {
    let mut holds_one = false;
    hear_event(event.clone(), |message| holds_one |= message.is_ok());
    holds_one
}

/// The messages in an event; none in events of other types, and in the empty ones that only set an identifier.
pub(crate) fn hear_event(event: sse::Event, each: impl FnMut(Result<Message, Unreadable>)) {
    if !event.data.is_empty() && (event.kind.is_empty() || event.kind == "message") {
        jsonrpc::hear(sse::text(event).into_bytes(), each);
    }
}
