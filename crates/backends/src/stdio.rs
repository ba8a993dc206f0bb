//! MCP over a pair of byte streams, one message a line: what is written and read, within bounds.
//! The process behind the streams is `child`'s.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendId, BoxFuture};
use vmcp_wire::jsonrpc;

use crate::duplex::{Duplex, Outbox, Outgoing};
use crate::ears::Ears;
use crate::failure::{Class, Failure};
use crate::flights::Flights;
use crate::life::{Lifeline, Loss};
use crate::lines::{Line, Lines};
use crate::pace::Pace;
use crate::policy::RESPONSE_BYTES_MAX;
use crate::sync::Guarded;

/// Messages that wait to be written. More wait in their callers, each until its own deadline.
const QUEUE_MAX: usize = 64;
/// Lines that are no messages, before the first one that is, after which the backend counts as no MCP server.
const GARBAGE_MAX: u64 = 200;

/// How long a backend that lost its connection may take to end by itself.
pub(crate) const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// How long the last messages may take to write.
const FAREWELL_WAIT: Duration = Duration::from_millis(200);
/// How long ending the connection may take beyond the grace given.
const CLOSE_WAIT: Duration = Duration::from_millis(250);

/// What the tasks of one stdio connection share.
#[derive(Clone)]
pub(crate) struct Wiring {
    /// Who hears unasked messages.
    pub(crate) ears: Arc<Ears>,
    /// The connection's end.
    pub(crate) life: Arc<Lifeline>,
    /// Cancelled when the gateway ends the connection; standard input is closed then.
    pub(crate) closing: CancellationToken,
    /// Cancelled at the first byte the backend says on any stream.
    pub(crate) alive: CancellationToken,
    /// Cancelled when everything of the connection has ended.
    pub(crate) closed: CancellationToken,
    /// Where tasks run.
    pub(crate) tasks: TaskTracker,
    /// How long one write may take.
    pub(crate) write_wait: Duration,
    /// How long the backend may take to end once its input is closed.
    pub(crate) grace: Arc<Guarded<Duration>>,
}

impl Wiring {
    pub(crate) fn new(ears: &Arc<Ears>, tasks: &TaskTracker, write_wait: Duration) -> Self {
        Self {
            ears: Arc::clone(ears),
            life: Arc::default(),
            closing: CancellationToken::new(),
            alive: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: tasks.clone(),
            write_wait,
            grace: Arc::new(Guarded::new(ORPHAN_GRACE)),
        }
    }

    fn backend(&self) -> &BackendId {
        self.ears.backend()
    }
}

/// Begins to read and write.
pub(crate) fn open<R, W>(reader: R, writer: W, wiring: &Wiring) -> Arc<Duplex>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let flights = Flights::new(Arc::clone(&wiring.ears));
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let outbox = Arc::new(StdioOutbox { queue, wiring: wiring.clone() });
    let duplex = Duplex::new(
        &wiring.ears,
        Arc::clone(&wiring.life),
        Arc::clone(&flights),
        outbox,
        wiring.tasks.clone(),
    );
    wiring.tasks.spawn(write(writer, waiting, flights, wiring.clone()));
    wiring.tasks.spawn(read(reader, Arc::clone(&duplex), wiring.clone()));
    duplex
}

struct StdioOutbox {
    queue: mpsc::Sender<Outgoing>,
    wiring: Wiring,
}

impl Outbox for StdioOutbox {
    fn send(&self, message: Outgoing) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let sent = self.queue.send(message).await;
            sent.map_err(|_| Failure::not_sent(Class::Exited, "the connection has ended"))
        })
    }

    fn send_soon(&self, message: Vec<u8>) {
        if self.queue.try_send(Outgoing::plain(message)).is_err() {
            tracing::debug!(backend = %self.wiring.backend(), "dropped a message: no room");
        }
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        *self.wiring.grace.lock() = grace;
        self.wiring.closing.cancel();
        Box::pin(async move {
            // The child's keeper kills after its own bounds; this one only keeps shutdown finite.
            let _ = timeout(grace + CLOSE_WAIT, self.wiring.closed.cancelled()).await;
        })
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Outgoing>,
    flights: Arc<Flights>,
    wiring: Wiring,
) {
    let ended = wiring.life.token();
    loop {
        let message = tokio::select! {
            message = queue.recv() => message,
            () = wiring.closing.cancelled() => None,
            () = ended.cancelled() => None,
        };
        let Some(mut message) = message else {
            farewell(&mut writer, queue).await;
            return;
        };
        if message.id.is_some_and(|id| !flights.has(id)) {
            continue;
        }
        message.bytes.push(b'\n');
        let writing = async {
            writer.write_all(&message.bytes).await?;
            writer.flush().await
        };
        let written = tokio::select! {
            written = timeout(wiring.write_wait, writing) => written,
            () = wiring.closing.cancelled() => return,
            () = ended.cancelled() => return,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                // The reader sees the end as well, after whatever is still said; a backend that closed its input
                // only is of no use either.
                let _ = timeout(ORPHAN_GRACE, ended.cancelled()).await;
                wiring.life.lose(Loss::Failed(Class::Exited));
                return;
            }
            Err(_) => {
                tracing::warn!(backend = %wiring.backend(), "the backend does not read its input; giving it up");
                wiring.life.lose(Loss::Failed(Class::Timeout));
                return;
            }
        }
    }
}

/// Writes what was already to be written when the connection is ended: cancellations, mostly.
async fn farewell<W: AsyncWrite + Unpin>(writer: &mut W, mut queue: mpsc::Receiver<Outgoing>) {
    let writing = async {
        while let Ok(mut message) = queue.try_recv() {
            message.bytes.push(b'\n');
            if writer.write_all(&message.bytes).await.is_err() {
                return;
            }
        }
        // An end that cannot be written is seen by the reader.
        let _ = writer.flush().await;
    };
    let _ = timeout(FAREWELL_WAIT, writing).await;
}

async fn read<R: AsyncRead + Unpin>(reader: R, duplex: Arc<Duplex>, wiring: Wiring) {
    let mut lines = Lines::new(reader, RESPONSE_BYTES_MAX);
    let (mut garbage, mut pace) = (Garbage::default(), Pace::new());
    let ended = wiring.life.token();
    let class = loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = ended.cancelled() => break Class::Exited,
        };
        match line {
            Err(_) | Ok(None) => break Class::Exited,
            Ok(Some(Line::Cut(_))) => {
                wiring.alive.cancel();
                tracing::warn!(
                    backend = %wiring.backend(),
                    bytes_max = RESPONSE_BYTES_MAX,
                    "skipped a message that is larger than allowed"
                );
                duplex.abandon_only();
            }
            Ok(Some(Line::Whole(line))) => {
                wiring.alive.cancel();
                let bytes = line.len();
                if line.trim_ascii().is_empty() {
                    pace.keep(bytes).await;
                    continue;
                }
                let is_answer = match understand(line) {
                    Ok(message) => {
                        garbage.understood = true;
                        duplex.receive(message)
                    }
                    Err(why) => {
                        if garbage.add(wiring.backend(), &why) {
                            break Class::Protocol;
                        }
                        false
                    }
                };
                if !is_answer {
                    pace.keep(bytes).await;
                }
            }
        }
    };
    wiring.life.lose(Loss::Failed(class));
    duplex.abandon();
}

fn understand(line: Vec<u8>) -> Result<jsonrpc::Message, String> {
    let text = ByteString::try_from(Bytes::from(line)).map_err(|_| "not UTF-8".to_owned())?;
    jsonrpc::parse(&text).map_err(|fault| match spoken(&text) {
        Some(words) => format!("{fault}; it says: {words}"),
        None => fault.to_string(),
    })
}

/// The start of a line that is plainly a log line. Anything that may be a piece of a message is not shown.
fn spoken(text: &str) -> Option<String> {
    let text = text.trim_start();
    let first = text.chars().next()?;
    (first.is_alphabetic()).then(|| text.chars().take(120).filter(|char| !char.is_control()).collect())
}

#[derive(Default)]
struct Garbage {
    lines: u64,
    understood: bool,
}

impl Garbage {
    /// Counts and reports a line that is no message. True when there have been too many.
    fn add(&mut self, backend: &BackendId, why: &str) -> bool {
        self.lines += 1;
        if self.lines <= 5 || self.lines.is_power_of_two() {
            let lines = self.lines;
            tracing::warn!(%backend, lines, why, "the backend wrote a line to standard output that is no message");
        }
        !self.understood && self.lines >= GARBAGE_MAX
    }
}

#[cfg(test)]
mod tests;
