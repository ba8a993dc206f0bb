//! Reads a byte stream line by line within a limit. It never holds more than one line.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::large_buffer::{LARGE_BYTES, LargeBuffer};
use crate::transport::read_throttle::ReadThrottle;

const BUFFER_BYTES: usize = 64 << 10;

/// Number of bytes kept of a line that is too long.
const TRUNCATED_BYTES: usize = 4 << 10;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The bytes of the line, without the line ending.
    Complete(Bytes),
    /// The start of a line that was longer than allowed; the rest has been skipped.
    Truncated(Bytes),
}

/// What has been read of one line. A long line is kept in its own memory mapping, which returns to the
/// system.
#[derive(Default)]
struct LineBuffer {
    small: Vec<u8>,
    large: Option<LargeBuffer>,
}

impl LineBuffer {
    fn len(&self) -> usize {
        self.large.as_ref().map_or(self.small.len(), LargeBuffer::len)
    }

    fn extend(&mut self, piece: &[u8], bytes_max: usize) -> io::Result<()> {
        if let Some(large) = &mut self.large {
            return large.extend(piece);
        }
        if self.small.len() + piece.len() < LARGE_BYTES {
            self.small.extend_from_slice(piece);
            return Ok(());
        }
        // Memory is only used for what is written, so the mapping has the maximum size and never grows.
        let mut large = LargeBuffer::new(bytes_max)?;
        large.extend(&std::mem::take(&mut self.small))?;
        large.extend(piece)?;
        self.large = Some(large);
        Ok(())
    }

    /// Keeps only the start of the line.
    fn truncate(&mut self) {
        let start = self.as_ref();
        let start = start.get(..TRUNCATED_BYTES).unwrap_or(start).to_vec();
        *self = Self { small: start, large: None };
    }

    fn freeze(self) -> Bytes {
        match self.large {
            Some(large) => large.freeze(),
            None => Bytes::from(self.small),
        }
    }
}

impl AsRef<[u8]> for LineBuffer {
    fn as_ref(&self) -> &[u8] {
        self.large.as_ref().map_or(&self.small, AsRef::as_ref)
    }
}

/// Reads lines.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    reader: BufReader<R>,
    bytes_max: usize,
    /// Throttles skipping the rest of a line that is too long.
    throttle: ReadThrottle,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(reader: R, bytes_max: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            bytes_max,
            throttle: ReadThrottle::new(),
        }
    }

    /// The next line; `None` at the end of the stream. A last line without a line ending counts.
    pub(crate) async fn next_line(&mut self) -> io::Result<Option<Line>> {
        let (mut line, mut is_truncated, mut has_ended, mut has_data) =
            (LineBuffer::default(), false, false, false);
        while !has_ended {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                break;
            }
            has_data = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            has_ended = end.is_some();
            let piece = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let capacity_left = self.bytes_max - line.len();
            if !is_truncated {
                line.extend(piece.get(..capacity_left).unwrap_or(piece), self.bytes_max)?;
                if piece.len() > capacity_left {
                    is_truncated = true;
                    line.truncate();
                }
            }
            let used = piece.len() + usize::from(has_ended);
            self.reader.consume(used);
            if is_truncated {
                self.throttle.record(used).await;
            }
        }
        if !has_data {
            return Ok(None);
        }
        let line = line.freeze();
        if is_truncated {
            return Ok(Some(Line::Truncated(line)));
        }
        Ok(Some(Line::Complete(match line.as_ref() {
            [start @ .., b'\r'] => line.slice(..start.len()),
            _ => line,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded() {
        let mut lines = LineReader::new(&b"a\r\n\n12345678\n1234\nend"[..], 4);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            found.push(match line {
                Line::Complete(line) => String::from_utf8(line.to_vec()).unwrap(),
                Line::Truncated(line) => format!("{}…", String::from_utf8(line.to_vec()).unwrap()),
            });
        }
        assert_eq!(found, ["a", "", "1234…", "1234", "end"]);
    }

    #[tokio::test]
    async fn long_lines_are_whole_or_give_their_memory_back() {
        let long = vec![b'x'; 3 * LARGE_BYTES];
        let text = [&long[..], b"\n", &long, b"yz\nend\r\n"].concat();
        let mut lines = LineReader::new(&text[..], long.len());
        assert_eq!(lines.next_line().await.unwrap(), Some(Line::Complete(Bytes::from(long))));
        let Some(Line::Truncated(start)) = lines.next_line().await.unwrap() else { panic!("it is too long") };
        assert_eq!(start.len(), TRUNCATED_BYTES);
        assert_eq!(lines.next_line().await.unwrap(), Some(Line::Complete(Bytes::from_static(b"end"))));
    }
}
