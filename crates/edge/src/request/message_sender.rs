//! Where the messages of one request are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::http::event_buffer::EventBuffer;

/// Where messages to a client are sent.
#[derive(Clone, Debug)]
pub(crate) enum MessageSender {
    /// Into one HTTP response.
    Stream(Arc<EventBuffer>),
    /// Into the output channel of a stdio process, until the flag says that the request is answered.
    Channel(mpsc::Sender<Bytes>, Arc<AtomicBool>),
}

impl MessageSender {
    /// Sends a message that may be dropped.
    pub(crate) fn send_lossy(&self, message: Bytes) {
        match self {
            Self::Stream(buffer) => {
                buffer.push_lossy(message);
            }
            Self::Channel(_, answered) if answered.load(Ordering::Acquire) => {}
            Self::Channel(channel, _) => {
                // The channel is full when the client reads slowly; the message is dropped then.
                let _ = channel.try_send(message);
            }
        }
    }

    /// Sends a message that must not be dropped. Returns false if the client is gone or the request is
    /// answered.
    pub(crate) async fn send(&self, message: Bytes) -> bool {
        match self {
            Self::Stream(buffer) => buffer.push(message),
            Self::Channel(_, answered) if answered.load(Ordering::Acquire) => false,
            Self::Channel(channel, _) => channel.send(message).await.is_ok(),
        }
    }
}
