//! Writes the messages for a client to standard output, one message per line.

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::server::outgoing;

use crate::request::changes::change_stream::ChangeStream;

/// Writes messages until the last sender is dropped or the client stops reading.
pub(super) async fn write_messages<W: AsyncWrite + Unpin>(
    mut stdout: W,
    mut messages: mpsc::Receiver<Bytes>,
) {
    while let Some(message) = messages.recv().await {
        let mut line = Vec::with_capacity(message.len() + 1);
        // JSON strings escape line feeds. An unescaped one is white space from a backend's formatting, so a
        // space can replace it.
        line.extend(message.iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            byte => *byte,
        }));
        line.push(b'\n');
        let written = stdout.write_all(&line).await;
        let written = match written {
            Ok(()) if messages.is_empty() => stdout.flush().await,
            other => other,
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the client stopped reading");
            return;
        }
    }
}

/// Sends change notifications until `stopping` is cancelled.
pub(super) async fn send_changes(
    mut changes: ChangeStream,
    subscription: Option<&Id>,
    out: &mpsc::Sender<Bytes>,
    stopping: &CancellationToken,
) {
    loop {
        for change in changes.take_changes() {
            let _ = out.send(outgoing::change(&change, subscription).into()).await;
        }
        tokio::select! {
            () = changes.changed() => {}
            () = stopping.cancelled() => return,
        }
    }
}
