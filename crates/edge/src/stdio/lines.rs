//! Lines of a stream, each within a bound. A line that is too long is skipped, not kept.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its ending.
    Text(Vec<u8>),
    /// A line longer than allowed.
    TooLong,
    /// The end of the stream.
    End,
}

/// Reads lines.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    too_long: bool,
    line_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, line_bytes_max: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, reader),
            line: Vec::new(),
            too_long: false,
            line_bytes_max,
        }
    }

    /// The next line. Nothing is lost when the future is dropped. A last line without an ending counts.
    pub(super) async fn next(&mut self) -> io::Result<Line> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            let at_end = bytes.is_empty();
            let ending = bytes.iter().position(|byte| *byte == b'\n');
            let piece = bytes.get(..ending.unwrap_or(bytes.len())).unwrap_or_default();
            if self.line.len() + piece.len() > self.line_bytes_max {
                self.too_long = true;
                self.line = Vec::new();
            } else if !self.too_long {
                self.line.extend_from_slice(piece);
            }
            let taken = piece.len() + usize::from(ending.is_some());
            self.reader.consume(taken);
            if ending.is_some() || (at_end && (self.too_long || !self.line.is_empty())) {
                let line = std::mem::take(&mut self.line);
                return Ok(if std::mem::take(&mut self.too_long) { Line::TooLong } else { Line::Text(line) });
            }
            if at_end {
                return Ok(Line::End);
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
        let mut lines = Lines::new(input, 10);
        let mut read = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Line::Text(line) => read.push(String::from_utf8(line).unwrap()),
                Line::TooLong => read.push("too long".to_owned()),
                Line::End => break,
            }
        }
        assert_eq!(read, ["one", "", "too long", "two", "last"]);
    }
}
