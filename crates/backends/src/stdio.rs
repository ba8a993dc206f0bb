//! MCP over a pair of byte streams, one message a line: what is written and read, within bounds.
//! The process behind the streams is `child`'s.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
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
use crate::signs::{Noticed, Signs};
use crate::sync::Guarded;

/// Messages that wait to be written. More wait in their callers, each until its own deadline.
const QUEUE_MAX: usize = 64;
/// How much may come before the first message: a build tool or an installer may say a lot. After more than that the
/// backend counts as no MCP server.
const BANNER_BYTES_MAX: usize = 1 << 20;

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
    /// Signs of life while the backend is being started.
    pub(crate) signs: Arc<Signs>,
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
    pub(crate) fn new(
        ears: &Arc<Ears>,
        tasks: &TaskTracker,
        signs: &Arc<Signs>,
        write_wait: Duration,
    ) -> Self {
        Self {
            ears: Arc::clone(ears),
            life: Arc::default(),
            closing: CancellationToken::new(),
            alive: CancellationToken::new(),
            signs: Arc::clone(signs),
            closed: CancellationToken::new(),
            tasks: tasks.clone(),
            write_wait,
            grace: Arc::new(Guarded::new(ORPHAN_GRACE)),
        }
    }

    /// The stream, with what is read noticed as a sign of life.
    pub(crate) fn noticed<R>(&self, reader: R) -> Noticed<R> {
        Noticed { reader, signs: Arc::clone(&self.signs), alive: self.alive.clone() }
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
    let mut lines = Lines::new(wiring.noticed(reader), RESPONSE_BYTES_MAX);
    let (mut banner, mut pace) = (Banner::default(), Pace::new());
    let ended = wiring.life.token();
    let class = loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = ended.cancelled() => break Class::Exited,
        };
        match line {
            Err(_) | Ok(None) => break Class::Exited,
            Ok(Some(Line::Cut(_))) => {
                tracing::warn!(
                    backend = %wiring.backend(),
                    bytes_max = RESPONSE_BYTES_MAX,
                    "skipped a message that is larger than allowed"
                );
                duplex.receive_too_large();
            }
            Ok(Some(Line::Whole(line))) => {
                let bytes = line.len();
                let is_answer = hear_line(&line, &duplex, &mut banner, &wiring.signs);
                if banner.is_too_long() {
                    break Class::Protocol;
                }
                if !is_answer {
                    pace.keep(bytes).await;
                }
            }
        }
    };
    wiring.life.lose(Loss::Failed(class));
    duplex.abandon();
}

/// Takes the messages of one line. True for an answer that somebody waited for.
fn hear_line(line: &Bytes, duplex: &Duplex, banner: &mut Banner, signs: &Signs) -> bool {
    if line.trim_ascii().is_empty() {
        return false;
    }
    let (mut is_answer, mut why) = (false, None);
    jsonrpc::hear(line.clone(), |message| match message {
        Ok(message) => {
            banner.is_over = true;
            is_answer |= duplex.receive(message);
        }
        Err(unreadable) => {
            is_answer |= duplex.receive_unreadable(&unreadable);
            why.get_or_insert(unreadable.cause);
        }
    });
    // A line is counted once, however much of it is no message.
    if let Some(why) = why {
        if let Some(text) = log_text(line) {
            signs.line(&text);
        }
        banner.add(duplex.backend(), line, &why);
    }
    is_answer
}

/// The start of a line that is plainly a log line. Anything that may be a piece of a message is not shown.
fn log_text(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line.get(..480).unwrap_or(line));
    let text = text.trim_start();
    let first = text.chars().next()?;
    first.is_alphabetic().then(|| text.chars().take(120).filter(|char| !char.is_control()).collect())
}

/// What a backend writes to standard output that is no message: an installer's words before the first one, mostly.
#[derive(Default)]
struct Banner {
    lines: u64,
    bytes: usize,
    /// A message has come.
    is_over: bool,
}

impl Banner {
    /// Counts and reports a line.
    fn add(&mut self, backend: &BackendId, line: &[u8], why: &str) {
        self.lines += 1;
        self.bytes += line.len();
        if self.lines <= 5 || self.lines.is_power_of_two() {
            let (lines, says) = (self.lines, log_text(line));
            tracing::warn!(
                %backend, lines, why, says,
                "the backend wrote a line to standard output that is no message"
            );
        }
    }

    fn is_too_long(&self) -> bool {
        !self.is_over && self.bytes > BANNER_BYTES_MAX
    }
}

#[cfg(test)]
mod tests;
