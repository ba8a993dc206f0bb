//! MCP over a pair of byte streams, one message per line, with limits on what is written and read. `child`
//! manages the process behind the streams.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendId, BoxFuture};
use vmcp_wire::jsonrpc;

use crate::connection::close_signal::{CloseReason, CloseSignal};
use crate::connection::event_sender::EventSender;
use crate::connection::pending_requests::PendingRequests;
use crate::failure::{Failure, FailureClass};
use crate::policy::RESPONSE_BYTES_MAX;
use crate::transport::duplex::{DuplexLink, MessageSink, OutgoingMessage};
use crate::transport::line_reader::{Line, LineReader};
use crate::transport::read_throttle::ReadThrottle;
use crate::transport::startup_activity::{ActivityReader, StartupActivity};

/// Maximum number of messages in the write queue. Further senders wait, each until its own deadline.
const QUEUE_MAX: usize = 64;
/// Maximum number of bytes before the first message: a build tool or an installer may write a lot. A backend
/// that writes more does not count as an MCP server.
const BANNER_BYTES_MAX: usize = 1 << 20;

/// How long a backend that lost its connection may take to end on its own.
pub(crate) const LOST_CONNECTION_GRACE: Duration = Duration::from_secs(2);
/// Time-out for writing the last messages.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long closing the connection may take beyond the given grace.
const CLOSE_MARGIN: Duration = Duration::from_millis(250);

/// State that the tasks of one stdio connection share.
#[derive(Clone)]
pub(crate) struct StdioContext {
    /// Receives unsolicited events.
    pub(crate) event_sender: Arc<EventSender>,
    /// Closes the connection.
    pub(crate) close_signal: Arc<CloseSignal>,
    /// Cancelled when the gateway closes the connection; standard input is closed then.
    pub(crate) closing: CancellationToken,
    /// Cancelled at the first byte that the backend writes to any stream.
    pub(crate) first_output: CancellationToken,
    /// Output while the backend is being started.
    pub(crate) startup_activity: Arc<StartupActivity>,
    /// The exit status of the process, once it has ended without a signal of the gateway.
    pub(crate) exit_status: Arc<OnceLock<String>>,
    /// Cancelled when the end of standard error has been read.
    pub(crate) stderr_ended: CancellationToken,
    /// Cancelled when everything of the connection has ended.
    pub(crate) closed: CancellationToken,
    /// Tracks the tasks.
    pub(crate) tasks: TaskTracker,
    /// Time-out of one write.
    pub(crate) write_timeout: Duration,
    /// How long the backend may take to end once its input is closed.
    pub(crate) grace: Arc<Mutex<Duration>>,
}

impl StdioContext {
    pub(crate) fn new(
        event_sender: &Arc<EventSender>,
        tasks: &TaskTracker,
        startup_activity: &Arc<StartupActivity>,
        write_timeout: Duration,
    ) -> Self {
        Self {
            event_sender: Arc::clone(event_sender),
            close_signal: Arc::default(),
            closing: CancellationToken::new(),
            first_output: CancellationToken::new(),
            startup_activity: Arc::clone(startup_activity),
            exit_status: Arc::default(),
            stderr_ended: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: tasks.clone(),
            write_timeout,
            grace: Arc::new(Mutex::new(LOST_CONNECTION_GRACE)),
        }
    }

    /// Wraps a stream so that everything read from it counts as startup activity.
    pub(crate) fn track_activity<R>(&self, reader: R) -> ActivityReader<R> {
        ActivityReader {
            reader,
            startup_activity: Arc::clone(&self.startup_activity),
            first_output: self.first_output.clone(),
        }
    }

    fn backend(&self) -> &BackendId {
        self.event_sender.backend()
    }
}

/// Starts to read and write.
pub(crate) fn open<R, W>(reader: R, writer: W, context: &StdioContext) -> Arc<DuplexLink>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let pending_requests = PendingRequests::new(Arc::clone(&context.event_sender));
    let (queue, queue_receiver) = mpsc::channel(QUEUE_MAX);
    let sink = Arc::new(StdioSink { queue, context: context.clone() });
    let duplex = DuplexLink::new(
        &context.event_sender,
        Arc::clone(&context.close_signal),
        Arc::clone(&pending_requests),
        sink,
        context.tasks.clone(),
    );
    context.tasks.spawn(write_loop(writer, queue_receiver, pending_requests, context.clone()));
    context.tasks.spawn(read_loop(reader, Arc::clone(&duplex), context.clone()));
    duplex
}

struct StdioSink {
    queue: mpsc::Sender<OutgoingMessage>,
    context: StdioContext,
}

impl MessageSink for StdioSink {
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let sent = self.queue.send(message).await;
            sent.map_err(|_| Failure::not_sent(FailureClass::Exited, "the connection has ended"))
        })
    }

    fn try_send(&self, message: Vec<u8>) {
        if self.queue.try_send(OutgoingMessage::without_headers(message)).is_err() {
            tracing::debug!(backend = %self.context.backend(), "dropped a message: no room");
        }
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        *self.context.grace.lock() = grace;
        self.context.closing.cancel();
        Box::pin(async move {
            // `watch_process` kills the child within its own limits; this time-out only keeps shutdown
            // finite.
            let _ = timeout(grace + CLOSE_MARGIN, self.context.closed.cancelled()).await;
        })
    }
}

async fn write_loop<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<OutgoingMessage>,
    pending_requests: Arc<PendingRequests>,
    context: StdioContext,
) {
    let closed = context.close_signal.token();
    loop {
        let message = tokio::select! {
            message = queue.recv() => message,
            () = context.closing.cancelled() => None,
            () = closed.cancelled() => None,
        };
        let Some(mut message) = message else {
            write_queued(&mut writer, queue).await;
            return;
        };
        if message.id.is_some_and(|id| !pending_requests.contains(id)) {
            continue;
        }
        message.bytes.push(b'\n');
        let writing = async {
            writer.write_all(&message.bytes).await?;
            writer.flush().await
        };
        let written = tokio::select! {
            written = timeout(context.write_timeout, writing) => written,
            () = context.closing.cancelled() => return,
            () = closed.cancelled() => return,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                // The reader notices the end as well, after the remaining output. A backend that closed only
                // its input is of no use either.
                let _ = timeout(LOST_CONNECTION_GRACE, closed.cancelled()).await;
                context.close_signal.close(CloseReason::Failed(FailureClass::Exited));
                return;
            }
            Err(_) => {
                tracing::warn!(backend = %context.backend(), "the backend does not read its input; giving it up");
                context.close_signal.close(CloseReason::Failed(FailureClass::Timeout));
                return;
            }
        }
    }
}

/// Writes what was already queued when the connection closes, mostly cancellations.
async fn write_queued<W: AsyncWrite + Unpin>(writer: &mut W, mut queue: mpsc::Receiver<OutgoingMessage>) {
    let writing = async {
        while let Ok(mut message) = queue.try_recv() {
            message.bytes.push(b'\n');
            if writer.write_all(&message.bytes).await.is_err() {
                return;
            }
        }
        // If flushing fails, the reader notices the end of the stream.
        let _ = writer.flush().await;
    };
    let _ = timeout(FINAL_WRITE_TIMEOUT, writing).await;
}

async fn read_loop<R: AsyncRead + Unpin>(reader: R, duplex: Arc<DuplexLink>, context: StdioContext) {
    let mut lines = LineReader::new(context.track_activity(reader), RESPONSE_BYTES_MAX);
    let (mut banner, mut throttle) = (Banner::default(), ReadThrottle::new());
    let closed = context.close_signal.token();
    let class = loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            () = closed.cancelled() => break FailureClass::Exited,
        };
        match line {
            Err(_) | Ok(None) => break FailureClass::Exited,
            Ok(Some(Line::Truncated(_))) => {
                tracing::warn!(
                    backend = %context.backend(),
                    bytes_max = RESPONSE_BYTES_MAX,
                    "skipped a message that is larger than allowed"
                );
                duplex.handle_too_large();
            }
            Ok(Some(Line::Complete(line))) => {
                let bytes = line.len();
                let is_answer = handle_line(&line, &duplex, &mut banner, &context.startup_activity);
                if banner.is_too_long() {
                    break FailureClass::Protocol;
                }
                if !is_answer {
                    throttle.record(bytes).await;
                }
            }
        }
    };
    context.close_signal.close(CloseReason::Failed(class));
    duplex.abort_pending();
}

/// Handles the messages of one line. Returns true for an answer that a request waited for.
fn handle_line(
    line: &Bytes,
    duplex: &DuplexLink,
    banner: &mut Banner,
    startup_activity: &StartupActivity,
) -> bool {
    if line.trim_ascii().is_empty() {
        return false;
    }
    let (mut is_answer, mut why) = (false, None);
    jsonrpc::parse_lenient(line.clone(), |message| match message {
        Ok(message) => {
            banner.has_ended = true;
            is_answer |= duplex.handle_message(message);
        }
        Err(unreadable) => {
            is_answer |= duplex.handle_unreadable(&unreadable);
            why.get_or_insert(unreadable.cause);
        }
    });
    // A line is counted once, however many parts of it are no message.
    if let Some(why) = why {
        if let Some(text) = printable_prefix(line) {
            startup_activity.record_line(&text);
        }
        banner.record_line(duplex.backend(), line, &why);
    }
    is_answer
}

/// The start of a line that is clearly a log line. Anything that may be part of a message is not shown.
fn printable_prefix(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line.get(..480).unwrap_or(line));
    let text = text.trim_start();
    let first = text.chars().next()?;
    first.is_alphabetic().then(|| text.chars().take(120).filter(|char| !char.is_control()).collect())
}

/// What a backend writes to standard output that is no message: usually an installer's output before the
/// first message.
#[derive(Default)]
struct Banner {
    line_count: u64,
    byte_count: usize,
    /// A message has been received.
    has_ended: bool,
}

impl Banner {
    /// Counts and reports a line. The first five are logged, then only those at powers of two.
    fn record_line(&mut self, backend: &BackendId, line: &[u8], why: &str) {
        self.line_count += 1;
        self.byte_count += line.len();
        if self.line_count <= 5 || self.line_count.is_power_of_two() {
            let (lines, says) = (self.line_count, printable_prefix(line));
            tracing::warn!(
                %backend, lines, why, says,
                "the backend wrote a line to standard output that is not a JSON-RPC message"
            );
        }
    }

    fn is_too_long(&self) -> bool {
        !self.has_ended && self.byte_count > BANNER_BYTES_MAX
    }
}

#[cfg(test)]
mod tests;
