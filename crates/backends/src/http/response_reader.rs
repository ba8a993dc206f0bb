//! Reads the HTTP responses of a backend within limits: one whole message, or single events.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use vmcp_json::Json;
use vmcp_wire::jsonrpc::{self, Id, Message, UnreadableMessage};
use vmcp_wire::sse::{self, Decoder};

use vmcp_http_client::error_chain;

use crate::failure::{Failure, FailureClass};
use crate::http::client::{ContentKind, content_kind, describe_content_type};
use crate::http::response_body::ResponseBody;
use crate::large_buffer::{LARGE_BYTES, LargeBuffer};
use crate::policy::RESPONSE_BYTES_MAX;

/// Maximum number of bytes read of an error response to find a message in it.
pub(crate) const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// Maximum number of bytes allocated because of an announced length.
const PREALLOCATED_BYTES_MAX: usize = 1 << 20;

/// Reads a whole body of at most `bytes_max` bytes. A body in one piece is not copied.
pub(crate) async fn read_whole(mut body: ResponseBody, bytes_max: usize) -> Result<Bytes, Failure> {
    let too_large = || Failure::indeterminate(FailureClass::TooLarge, "the answer is larger than allowed");
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut large: Option<LargeBuffer> = None;
    let no_memory = |error| {
        Failure::indeterminate(FailureClass::TooLarge, format_args!("no memory for the answer: {error}"))
    };
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::indeterminate(FailureClass::Exited, error_chain(&*error)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = large.as_ref().map_or(first.len() + rest.len(), LargeBuffer::len);
        let total = length + data.len();
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
                // Reserving the announced length avoids reallocation. The amount is limited, because the
                // length is only announced.
                rest.reserve(announced.min(PREALLOCATED_BYTES_MAX));
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
pub(crate) async fn read_outcome(body: ResponseBody, id: u64) -> Result<Json, Failure> {
    let bytes = read_whole(body, RESPONSE_BYTES_MAX).await?;
    let mut found = None;
    let mut fault = None;
    jsonrpc::parse_lenient(bytes, |message| match message {
        Ok(Message::Response { id: of, outcome }) if is_response_to(of.as_ref(), id, outcome.is_err()) => {
            found.get_or_insert(outcome.map_err(Failure::Refused));
        }
        Ok(Message::Response { .. }) => {
            fault.get_or_insert_with(|| "the answer belongs to another request".to_owned());
        }
        // A batch may contain other messages next to the answer.
        Ok(Message::Request { .. } | Message::Notification { .. }) => {}
        Err(unreadable) => drop(fault.get_or_insert(unreadable.cause)),
    });
    let fault = || fault.unwrap_or_else(|| "it holds no answer".to_owned());
    found.unwrap_or_else(|| {
        Err(Failure::indeterminate(FailureClass::Protocol, format_args!("the answer: {}", fault())))
    })
}

/// True if a response answers request `id`. A server that could not read the identifier sends its error
/// without one.
pub(crate) fn is_response_to(found: Option<&Id>, id: u64, is_error: bool) -> bool {
    match found {
        Some(found) => found.as_number() == Some(id),
        None => is_error,
    }
}

/// Determines the kind of a body: by its first bytes where they contradict the content type.
///
/// # Errors
/// If the body is clearly something else, such as an HTML page.
pub(crate) async fn detect_content(
    response: Response<ResponseBody>,
) -> Result<(ContentKind, ResponseBody), Failure> {
    /// Enough for a byte order mark and the name of a field.
    const START_BYTES: usize = 16;
    let declared = content_kind(&response);
    let (head, mut body) = response.into_parts();
    let mut start = body.peek(1).await?;
    if start.len() < START_BYTES && (start.trim_ascii_start().is_empty() || start.starts_with(b"\xef")) {
        start = body.peek(START_BYTES).await?;
    }
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let found = match start.first() {
        Some(b'<') => {
            let cause =
                format!("the answer is a page of HTML or XML ({})", describe_content_type(&head.headers));
            return Err(Failure::indeterminate(FailureClass::WebPage, cause));
        }
        Some(b'{' | b'[') => ContentKind::Message,
        Some(_)
            if [&b"event:"[..], b"data:", b"id:", b"retry:"].iter().any(|field| start.starts_with(field)) =>
        {
            ContentKind::Events
        }
        Some(_) | None => declared,
    };
    if found != declared {
        tracing::debug!(
            kind = describe_content_type(&head.headers),
            ?found,
            "the answer is not what its content type says"
        );
    }
    Ok((found, body))
}

/// A body that is an event stream.
pub(crate) struct EventReader {
    body: ResponseBody,
    decoder: Decoder,
    queue: VecDeque<sse::Event>,
    bytes_left: Option<usize>,
    /// The identifier of the last event that had one. The stream can be resumed after it.
    pub(crate) last_event_id: Option<String>,
}

impl EventReader {
    /// Reads events. Each event is limited to `RESPONSE_BYTES_MAX` bytes, and so are all of them together
    /// unless the stream `is_long_lived`.
    pub(crate) fn new(body: ResponseBody, is_long_lived: bool) -> Self {
        Self {
            body,
            decoder: Decoder::new(RESPONSE_BYTES_MAX),
            queue: VecDeque::new(),
            bytes_left: (!is_long_lived).then_some(RESPONSE_BYTES_MAX),
            last_event_id: None,
        }
    }

    /// The next event; `None` at the end of the stream. The future may be dropped and the method called
    /// again.
    pub(crate) async fn next_event(&mut self) -> Result<Option<sse::Event>, Failure> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                if event.id.is_some() {
                    self.last_event_id.clone_from(&event.id);
                }
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else {
                // Some servers end the stream without the blank line that ends an event. An event that broke
                // off in the middle is sent again when the stream is resumed.
                return Ok(self.decoder.finish().filter(has_message));
            };
            let frame =
                frame.map_err(|error| Failure::indeterminate(FailureClass::Exited, error_chain(&*error)))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if let Some(left) = &mut self.bytes_left {
                *left = left.checked_sub(data.len()).ok_or_else(|| {
                    Failure::indeterminate(FailureClass::TooLarge, "the answer is larger than allowed")
                })?;
            }
            let mut events = Vec::new();
            self.decoder
                .push(&data, &mut events)
                .map_err(|fault| Failure::indeterminate(FailureClass::Protocol, fault))?;
            self.queue.extend(events);
        }
    }

    /// The stream itself, for reading the rest of it.
    pub(crate) fn into_body(self) -> ResponseBody {
        self.body
    }
}

fn has_message(event: &sse::Event) -> bool {
    let mut holds_one = false;
    for_each_message(event.clone(), |message| holds_one |= message.is_ok());
    holds_one
}

/// Passes each message of an event to `each`. Events of other types contain none, nor do empty events that
/// only set an identifier.
pub(crate) fn for_each_message(event: sse::Event, each: impl FnMut(Result<Message, UnreadableMessage>)) {
    if !event.data.is_empty() && (event.kind.is_empty() || event.kind == "message") {
        jsonrpc::parse_lenient(sse::event_text(event).into_bytes(), each);
    }
}
