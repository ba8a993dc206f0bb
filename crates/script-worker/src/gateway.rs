//! The gateway as its worker sees it.

use std::cell::RefCell;
use std::io;

use crate::frame;
use crate::message::{FromWorker, ToWorker};

/// The gateway at the other ends of the pipes.
#[derive(Debug)]
pub(crate) struct Gateway {
    input: RefCell<io::Stdin>,
    output: RefCell<io::Stdout>,
}

impl Gateway {
    /// The gateway that started this process.
    pub(crate) fn of_this_process() -> Self {
        Self { input: RefCell::new(io::stdin()), output: RefCell::new(io::stdout()) }
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &FromWorker) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        frame::write(&mut *self.output.borrow_mut(), &text)
    }

    /// Waits for a message. `None` if the gateway has ended.
    pub(crate) fn receive(&self) -> io::Result<Option<ToWorker>> {
        let Some(frame) = frame::read(&mut *self.input.borrow_mut())? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&frame)?))
    }
}
