//! Encodes request heads and parses response heads (RFC 9112).

use std::io::Write as _;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Response, StatusCode, Version};

use crate::request::Http1Request;

/// Maximum length of a response head, in bytes.
const HEAD_BYTES_MAX: usize = 256 << 10;
/// Maximum number of headers, and of trailers, of one response.
pub(crate) const HEADERS_MAX: usize = 100;

/// How the end of a response body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// After this many bytes.
    ContentLength(u64),
    /// After the last chunk (chunked transfer coding).
    Chunked,
    /// At the end of the connection.
    UntilClose,
}

/// The head of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) response: Response<()>,
    pub(crate) framing: BodyFraming,
    /// The connection can serve another request afterwards.
    pub(crate) keep_alive: bool,
}

/// Encodes the head of a request, with capacity for `extra_capacity` more bytes.
pub(crate) fn encode_request_head(request: &Http1Request<'_>, extra_capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + extra_capacity);
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    for part in [request.method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let [overriding, headers] = request.headers;
    if !overriding.contains_key(HOST) && !headers.contains_key(HOST) {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(request.uri.host().unwrap_or_default().as_bytes());
        // The default port is omitted.
        if let Some(port) = request.uri.port_u16().filter(|port| *port != 80) {
            // Writing to memory does not fail.
            let _ = write!(out, ":{port}");
        }
        out.extend_from_slice(b"\r\n");
    }
    let others = headers.iter().filter(|(name, _)| !overriding.contains_key(*name));
    for (name, value) in overriding.iter().chain(others) {
        // Only this function sets the length and the framing of the body.
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            continue;
        }
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if !request.body.is_empty() || *request.method == Method::POST {
        let _ = write!(out, "content-length: {}\r\n", request.body.len());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Parses the head of a response and removes it from `input`; `None` until it has arrived completely.
/// Informational responses (1xx) are skipped.
pub(crate) fn parse_response_head(input: &mut BytesMut) -> Result<Option<ResponseHead>, String> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        let end = match parsed.parse(input) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) if input.len() > HEAD_BYTES_MAX => {
                return Err("the head of the answer is too long".to_owned());
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("the answer is not HTTP/1: {error}")),
        };
        let code = parsed.code.unwrap_or_default();
        let status = StatusCode::from_u16(code).map_err(|_| format!("the answer has the status {code}"))?;
        let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        if status.is_informational() {
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err("the answer wants to go on in another protocol".to_owned());
            }
            input.advance(end);
            continue;
        }
        // The offsets of the values, so that the values can share the buffer once it is split.
        let base = input.as_ptr().addr();
        let header_ranges: Vec<(HeaderName, usize, usize)> = parsed
            .headers
            .iter()
            .map(|header| {
                let name = HeaderName::from_bytes(header.name.as_bytes());
                let start = header.value.as_ptr().addr().saturating_sub(base);
                name.map(|name| (name, start, header.value.len()))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let head = input.split_to(end).freeze();
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = version;
        let headers = response.headers_mut();
        headers.reserve(header_ranges.len());
        for (name, start, length) in header_ranges {
            let value = if length == 0 { Bytes::new() } else { head.slice(start..start + length) };
            headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|error| error.to_string())?);
        }
        return with_framing(response).map(Some);
    }
}

/// Determines the framing of the body (RFC 9112 section 6.3), as far as it concerns answers to POST, GET and
/// DELETE.
fn with_framing(response: Response<()>) -> Result<ResponseHead, String> {
    let headers = response.headers();
    let length = if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        BodyFraming::ContentLength(0)
    } else if headers.contains_key(TRANSFER_ENCODING) {
        if response.version() == Version::HTTP_10 {
            return Err("an answer of HTTP/1.0 has a transfer coding".to_owned());
        }
        let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
        let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        if last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked")) {
            BodyFraming::Chunked
        } else {
            BodyFraming::UntilClose
        }
    } else {
        match parse_content_length(headers)? {
            Some(length) => BodyFraming::ContentLength(length),
            None => BodyFraming::UntilClose,
        }
    };
    let has_connection_option = |wanted: &str| {
        let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    let is_persistent = if response.version() == Version::HTTP_10 {
        has_connection_option("keep-alive")
    } else {
        !has_connection_option("close")
    };
    // An intermediary may frame a response differently that announces both a length and chunks.
    let is_unambiguous = !(headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH));
    let keep_alive = is_persistent && is_unambiguous && length != BodyFraming::UntilClose;
    Ok(ResponseHead { response, framing: length, keep_alive })
}

/// The length that a response announces. Two different lengths are an error.
fn parse_content_length(headers: &HeaderMap) -> Result<Option<u64>, String> {
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|text| text.parse::<u64>().ok());
        let length = length.ok_or_else(|| "the answer announces no proper length".to_owned())?;
        if found.is_some_and(|found| found != length) {
            return Err("the answer announces two lengths".to_owned());
        }
        found = Some(length);
    }
    Ok(found)
}
