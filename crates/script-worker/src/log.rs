//! The log of a script, up to its bound.

use std::cell::Cell;
use std::io;

use crate::gateway::Gateway;
use crate::message::FromWorker;

/// How much of the log is left.
pub(crate) struct Log {
    left: Cell<usize>,
}

impl Log {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { left: Cell::new(bytes_max) }
    }

    /// Sends a line, as far as it may.
    pub(crate) fn send(&self, gateway: &Gateway, text: &str) -> io::Result<()> {
        let left = self.left.get();
        if left == 0 {
            return Ok(());
        }
        let cut = text.floor_char_boundary(text.len().min(left));
        // The end of a line counts too, so that empty lines have an end.
        self.left.set(left.saturating_sub(cut + 1));
        gateway.send(&FromWorker::Log { text: text[..cut].to_owned() })
    }
}
