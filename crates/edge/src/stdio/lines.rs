//! Reads lines of bounded length. A line that is too long is skipped without buffering it.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The result of reading one line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadLine {
    /// A line without its line feed.
    Text(Vec<u8>),
    /// A line longer than the limit.
    TooLong,
    /// The end of the input.
    EndOfStream,
}

/// Reads lines from a byte stream.
pub(super) struct LineReader<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    is_too_long: bool,
    line_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(reader: R, line_bytes_max: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, reader),
            line: Vec::new(),
            is_too_long: false,
            line_bytes_max,
        }
    }

    /// Reads the next line. Cancel-safe: no input is lost if the future is dropped. A last line without a
    /// line feed counts.
    pub(super) async fn next_line(&mut self) -> io::Result<ReadLine> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            let at_end = bytes.is_empty();
            let ending = bytes.iter().position(|byte| *byte == b'\n');
            let piece = bytes.get(..ending.unwrap_or(bytes.len())).unwrap_or_default();
            if self.line.len() + piece.len() > self.line_bytes_max {
                self.is_too_long = true;
                self.line = Vec::new();
            } else if !self.is_too_long {
                self.line.extend_from_slice(piece);
            }
            let taken = piece.len() + usize::from(ending.is_some());
            self.reader.consume(taken);
            if ending.is_some() || (at_end && (self.is_too_long || !self.line.is_empty())) {
                let line = std::mem::take(&mut self.line);
                return Ok(if std::mem::take(&mut self.is_too_long) {
                    ReadLine::TooLong
                } else {
                    ReadLine::Text(line)
                });
            }
            if at_end {
                return Ok(ReadLine::EndOfStream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_within_bounds() {
        let input = b"one\n\nfar too long a line\ntwo\nlast".as_slice();
        let mut lines = LineReader::new(input, 10);
        let mut read = Vec::new();
        loop {
            match lines.next_line().await.unwrap() {
                ReadLine::Text(line) => read.push(String::from_utf8(line).unwrap()),
                ReadLine::TooLong => read.push("too long".to_owned()),
                ReadLine::EndOfStream => break,
            }
        }
        assert_eq!(read, ["one", "", "too long", "two", "last"]);
    }
}
