//! A hand-written HTTP/1.1 client with one connection for each request. It suffices for the gateway and the
//! fixtures, and it can disconnect in the middle of a response on purpose.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context as _, bail, ensure};

use crate::wait::TIMEOUT;

/// The head of a response, and its body as a stream.
pub struct Response {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    socket: TcpStream,
}

struct Body {
    from: BufReader<TcpStream>,
    framing: BodyFraming,
}

/// The framing of the unread part of a body.
enum BodyFraming {
    Bytes(u64),
    Chunks,
    Chunk(u64),
    UntilClosed,
    Nothing,
}

/// Sends a GET request and waits for the head of its response.
pub fn get(url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response> {
    send("GET", url, headers, &[])
}

/// Sends a request and waits for the head of its response. Every read has the time-out [`TIMEOUT`].
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Response> {
    begin(method, url, headers, body)?.response()
}

/// Sends a request without waiting for its response.
pub fn begin(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> anyhow::Result<PendingResponse> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no http URL"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut socket = TcpStream::connect(host).with_context(|| format!("nobody listens on {host}"))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    socket.write_all(&bytes)?;
    Ok(PendingResponse(socket))
}

/// A request without a response yet. Dropping it closes the connection.
pub struct PendingResponse(TcpStream);

impl PendingResponse {
    /// Waits for the head of the response.
    pub fn response(self) -> anyhow::Result<Response> {
        read_head(self.0)
    }
}

fn read_head(socket: TcpStream) -> anyhow::Result<Response> {
    let mut from = BufReader::new(socket.try_clone()?);
    let first = read_line(&mut from)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no HTTP answer: {first:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut from)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let value = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let left = if value("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        BodyFraming::Chunks
    } else if let Some(length) = value("content-length") {
        BodyFraming::Bytes(length.parse()?)
    } else if status == 204 {
        BodyFraming::Nothing
    } else {
        BodyFraming::UntilClosed
    };
    Ok(Response { status, headers, body: Body { from, framing: left }, socket })
}

fn read_line(from: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

impl Response {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads the whole body as text.
    pub fn text(mut self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes)?;
        Ok(String::from_utf8(bytes)?)
    }

    /// The messages of the body: one message if it is JSON, one for each event if it is an event stream.
    pub fn messages(self) -> anyhow::Result<MessageStream> {
        let stream = self.header("content-type").is_some_and(|media| media.starts_with("text/event-stream"));
        Ok(MessageStream {
            status: self.status,
            is_event_stream: stream,
            from: BufReader::new(self.body),
            socket: self.socket,
        })
    }
}

/// The messages of a response, in the order of their arrival. Dropping it closes the connection.
pub struct MessageStream {
    /// The status code.
    pub status: u16,
    is_event_stream: bool,
    from: BufReader<Body>,
    socket: TcpStream,
}

impl MessageStream {
    /// Waits for the next message; `None` at the end.
    pub fn next_message(&mut self) -> anyhow::Result<Option<String>> {
        if !self.is_event_stream {
            let mut text = String::new();
            self.from.read_to_string(&mut text)?;
            return Ok((!text.is_empty()).then_some(text));
        }
        let mut data = String::new();
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line)? == 0 {
                return Ok((!data.is_empty()).then_some(data));
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(more) = line.strip_prefix("data:") {
                data.push_str(more.strip_prefix(' ').unwrap_or(more));
            } else if line.is_empty() && !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

impl Drop for MessageStream {
    fn drop(&mut self) {
        self.socket.shutdown(Shutdown::Both).ok();
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let limit = match self.framing {
            BodyFraming::Nothing => return Ok(0),
            BodyFraming::UntilClosed => return self.from.read(into),
            BodyFraming::Chunks => match self.next_chunk().map_err(std::io::Error::other)? {
                0 => {
                    self.framing = BodyFraming::Nothing;
                    return Ok(0);
                }
                size => size,
            },
            BodyFraming::Bytes(0) => return Ok(0),
            BodyFraming::Bytes(left) | BodyFraming::Chunk(left) => left,
        };
        let most = usize::try_from(limit).unwrap_or(usize::MAX).min(into.len());
        let read = self.from.read(into.get_mut(..most).unwrap_or_default())?;
        if read == 0 && most > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let left = limit - read as u64;
        self.framing = match (&self.framing, left) {
            (BodyFraming::Bytes(_), left) => BodyFraming::Bytes(left),
            (_, 0) => self.end_chunk().map_err(std::io::Error::other)?,
            (_, left) => BodyFraming::Chunk(left),
        };
        Ok(read)
    }
}

impl Body {
    fn next_chunk(&mut self) -> anyhow::Result<u64> {
        let line = read_line(&mut self.from)?;
        let size = line.split(';').next().unwrap_or_default();
        match u64::from_str_radix(size.trim(), 16) {
            Ok(size) => Ok(size),
            Err(_) => bail!("no chunk size: {line:?}"),
        }
    }

    fn end_chunk(&mut self) -> anyhow::Result<BodyFraming> {
        ensure!(read_line(&mut self.from)?.is_empty(), "a chunk does not end");
        Ok(BodyFraming::Chunks)
    }
}
