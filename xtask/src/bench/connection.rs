//! One keep-alive HTTP/1.1 connection. A request is sent as it is given; of a response body only the bytes
//! that are checked are stored.

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Size of the read buffer in bytes.
const BUFFER_BYTES: usize = 128 << 10;
/// How many bytes of a body are stored, from its beginning.
const BODY_START_BYTES_MAX: usize = 512;

/// A keep-alive HTTP/1.1 connection with its read buffer.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Start of the bytes in the buffer that have been read and not yet parsed.
    unread_start: usize,
    unread_end: usize,
    /// Stores whole bodies instead of their first bytes.
    pub(crate) keeps_whole_body: bool,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The session identifier from the header `Mcp-Session-Id`.
    pub(crate) session: Option<String>,
    /// Length of the body in bytes.
    pub(crate) body_length: usize,
    /// The body, or its first bytes.
    pub(crate) body_start: Vec<u8>,
}

struct Head {
    status: u16,
    session: Option<String>,
    /// The length of the body; `None` for a chunked body.
    length: Option<usize>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
            unread_start: 0,
            unread_end: 0,
            keeps_whole_body: false,
        }
    }

    /// Sends a request without reading its response.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Sends a request and reads its response to the end.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Response> {
        self.send(request).await?;
        let head = loop {
            if let Some(end) = find(self.unread(), b"\r\n\r\n") {
                let head = read_head(self.unread().get(..end).unwrap_or_default())?;
                self.unread_start += end + 4;
                break head;
            }
            self.fill_buffer().await?;
        };
        let mut answer =
            Response { status: head.status, session: head.session, body_length: 0, body_start: Vec::new() };
        match head.length {
            Some(length) => self.read_body(length, &mut answer).await?,
            None => loop {
                let size = self.chunk_size().await?;
                self.read_body(size, &mut answer).await?;
                let mut chunk_end =
                    Response { status: 0, session: None, body_length: 0, body_start: Vec::new() };
                self.read_body(2, &mut chunk_end).await?;
                ensure!(chunk_end.body_start == b"\r\n", "a chunk ends with a line break");
                if size == 0 {
                    break;
                }
            },
        }
        Ok(answer)
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.unread_start..self.unread_end).unwrap_or_default()
    }

    async fn fill_buffer(&mut self) -> anyhow::Result<()> {
        if self.unread_start == self.unread_end {
            (self.unread_start, self.unread_end) = (0, 0);
        } else if self.unread_end == self.buffer.len() {
            ensure!(self.unread_start > 0, "the head of an answer is too long");
            self.buffer.copy_within(self.unread_start..self.unread_end, 0);
            (self.unread_start, self.unread_end) = (0, self.unread_end - self.unread_start);
        }
        let free_space = self.buffer.get_mut(self.unread_end..).unwrap_or_default();
        let read = self.stream.read(free_space).await?;
        ensure!(read > 0, "the other side hung up in the middle of an answer");
        self.unread_end += read;
        Ok(())
    }

    /// Reads `size` bytes of the body.
    async fn read_body(&mut self, mut size: usize, answer: &mut Response) -> anyhow::Result<()> {
        answer.body_length += size;
        while size > 0 {
            if self.unread_start == self.unread_end {
                self.fill_buffer().await?;
            }
            let chunk = size.min(self.unread_end - self.unread_start);
            let keep_length = if self.keeps_whole_body {
                chunk
            } else {
                BODY_START_BYTES_MAX.saturating_sub(answer.body_start.len())
            };
            let kept_bytes = self.unread().get(..chunk.min(keep_length)).unwrap_or_default();
            answer.body_start.extend_from_slice(kept_bytes);
            self.unread_start += chunk;
            size -= chunk;
        }
        Ok(())
    }

    async fn chunk_size(&mut self) -> anyhow::Result<usize> {
        loop {
            if let Some(end) = find(self.unread(), b"\r\n") {
                let line = std::str::from_utf8(self.unread().get(..end).unwrap_or_default())?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).with_context(|| format!("chunk {line:?}"))?;
                self.unread_start += end + 2;
                return Ok(size);
            }
            self.fill_buffer().await?;
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn read_head(head: &[u8]) -> anyhow::Result<Head> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("a status in {first:?}"))?;
    let (mut length, mut chunked, mut session) = (None, false, None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => length = Some(value.trim().parse()?),
            14 if name.eq_ignore_ascii_case("mcp-session-id") => session = Some(value.trim().to_owned()),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => chunked = true,
            _ => {}
        }
    }
    match (length, chunked) {
        (_, true) => length = None,
        (None, false) if status == 204 || status == 202 => length = Some(0),
        (None, false) => bail!("an answer that says neither its length nor that it comes in chunks: {head}"),
        (Some(_), false) => {}
    }
    Ok(Head { status, session, length })
}
