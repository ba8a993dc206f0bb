//! Writes the messages for a client over standard output, one a line.

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Ends when the last sender is gone, or when the client no longer reads.
pub(super) async fn write_messages<W: AsyncWrite + Unpin>(
    mut stdout: W,
    mut messages: mpsc::Receiver<Bytes>,
) {
    while let Some(message) = messages.recv().await {
        let mut line = Vec::with_capacity(message.len() + 1);
        // Within strings line endings are escaped, so those found here are white space of some backend's layout.
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
