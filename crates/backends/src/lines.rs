//! Reading a byte stream line by line within a bound, without ever holding more than one line.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::pace::Pace;

const BUFFER_BYTES: usize = 64 << 10;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Its bytes, without the line ending.
    Whole(Vec<u8>),
    /// The start of a line that was longer than allowed; the rest has been skipped.
    Cut(Vec<u8>),
}

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    bytes_max: usize,
    /// For what is skipped of a line that is too long.
    pace: Pace,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, bytes_max: usize) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER_BYTES, reader), bytes_max, pace: Pace::new() }
    }

    /// The next line; `None` at the end. A last line without an ending counts.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        let (mut line, mut cut, mut ended, mut seen) = (Vec::new(), false, false, false);
        while !ended {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                break;
            }
            seen = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            ended = end.is_some();
            let piece = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let room = self.bytes_max - line.len();
            cut |= piece.len() > room;
            line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            let used = piece.len() + usize::from(ended);
            self.reader.consume(used);
            if cut {
                self.pace.keep(used).await;
            }
        }
        if !seen {
            return Ok(None);
        }
        if cut {
            return Ok(Some(Line::Cut(line)));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(Line::Whole(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded() {
        let mut lines = Lines::new(&b"a\r\n\n12345678\n1234\nend"[..], 4);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(match line {
                Line::Whole(line) => String::from_utf8(line).unwrap(),
                Line::Cut(line) => format!("{}…", String::from_utf8(line).unwrap()),
            });
        }
        assert_eq!(found, ["a", "", "1234…", "1234", "end"]);
    }
}
