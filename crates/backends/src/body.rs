//! Reading what a backend answers over HTTP within bounds: one message whole, or events one by one.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use http_body::Body;
use http_body_util::BodyExt;
use vmcp_wire::jsonrpc::{self, Message};
use vmcp_wire::sse::{self, Decoder};

use crate::arriving::Arriving;
use crate::failure::{Class, Failure, chain};
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

/// Reads a body that is one message.
pub(crate) async fn message(body: Arriving, bytes_max: usize) -> Result<Message, Failure> {
    parse(whole(body, bytes_max).await?)
}

/// Reads bytes that are one message.
pub(crate) fn parse(bytes: Bytes) -> Result<Message, Failure> {
    let text = ByteString::try_from(bytes)
        .map_err(|_| Failure::broken(Class::Protocol, "the answer is not UTF-8"))?;
    jsonrpc::parse(&text).map_err(|fault| Failure::broken(Class::Protocol, fault))
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
                return Ok(None);
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

/// The message in an event; `None` for events that carry none (other types, and the empty ones that only set an
/// identifier).
pub(crate) fn event_message(event: sse::Event) -> Option<Result<Message, Failure>> {
    if event.data.is_empty() || !(event.kind.is_empty() || event.kind == "message") {
        return None;
    }
    let text = sse::text(event);
    Some(jsonrpc::parse(&text).map_err(|fault| Failure::broken(Class::Protocol, fault)))
}
