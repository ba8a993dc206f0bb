//! Serves one worker: reads what it sends, answers its requests, and stops at the first thing that it may not do. The
//! worker runs a script, so nothing that it sends is trusted.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::bytes::Bytes;
use vmcp_domain::BoxFuture;
use vmcp_json::Json;
use vmcp_script_worker::{FromWorker, Language, Outcome, Request, ScriptError, ToWorker};

use crate::worker::{WorkerPipes, frame_of};

/// The most requests of a run that are no calls: searches, questions, pauses.
const OTHER_REQUESTS_MAX: usize = 1000;
/// The most reports of progress of a run.
const PROGRESS_MAX: usize = 10_000;
/// The most bytes of calls that wait until others have ended.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// The most bytes of answers that a worker has not read. No further call starts then.
const UNREAD_BYTES_MAX: usize = 16 << 20;
/// What a line of the log takes beside its text.
const LINE_BYTES: usize = 1;

/// What a script may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServeBounds {
    /// The most calls in flight.
    pub(crate) parallel_calls_max: usize,
    /// The most calls.
    pub(crate) calls_max: usize,
    /// The longest result in bytes of JSON.
    pub(crate) result_bytes_max: usize,
    /// The most bytes of the log. A worker that sends more is no honest one.
    pub(crate) log_bytes_max: usize,
}

/// Does what a script asks for.
pub(crate) trait Host: Sync {
    /// The answer to a request.
    fn answer(&self, id: u64, request: Request) -> BoxFuture<'_, Outcome>;
    /// Learns which language the script is in.
    fn language(&self, language: Language);
    /// Keeps a line of the log.
    fn log(&self, line: &str);
    /// Tells the client how far the script is.
    fn progress(&self, message: &str, done: Option<f64>, total: Option<f64>);
    /// Keeps a content item for the answer.
    ///
    /// # Errors
    /// The bound that it exceeds.
    fn emit(&self, item: Json) -> Result<(), String>;
}

/// How a script ended.
#[derive(Debug)]
pub(crate) enum ScriptEnd {
    /// With a value.
    Value(Json),
    /// With an error of its own.
    Failed(ScriptError),
    /// It exceeded a bound, which the text names.
    Exceeded(String),
    /// Its worker ended without saying why, or sent what no worker sends.
    Lost,
}

/// Serves a worker that was sent its script.
pub(crate) async fn serve(pipes: &mut WorkerPipes, bounds: ServeBounds, host: &impl Host) -> ScriptEnd {
    let WorkerPipes { input, output } = pipes;
    let (sender, answers) = unbounded_channel();
    let unread_bytes = AtomicUsize::new(0);
    let mut writer = pin!(write_answers(input, answers, &unread_bytes));
    let mut can_write = true;
    let mut exchange = Exchange {
        bounds,
        host,
        sender,
        unread_bytes: &unread_bytes,
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        calls: 0,
        others: 0,
        progress_reports: 0,
        log_bytes: 0,
    };
    let (mut calls, mut others) = (FuturesUnordered::new(), FuturesUnordered::new());
    loop {
        while calls.len() < bounds.parallel_calls_max
            && let Some((id, request)) = exchange.next_call()
        {
            calls.push(answered(host, id, request));
        }
        let end = tokio::select! {
            frame = output.next() => match frame {
                Some(Ok(frame)) => exchange.read(&frame).map(|started| {
                    if let Some((id, request)) = started {
                        others.push(answered(host, id, request));
                    }
                }),
                Some(Err(_)) | None => Err(ScriptEnd::Lost),
            },
            Some((id, outcome)) = calls.next() => exchange.send(id, outcome),
            Some((id, outcome)) = others.next() => exchange.send(id, outcome),
            () = &mut writer, if can_write => {
                // The worker has closed its pipe. It may have sent its result before.
                can_write = false;
                Ok(())
            }
        };
        if let Err(end) = end {
            return end;
        }
    }
}

/// Writes answers until the worker reads no more.
async fn write_answers(
    input: &mut (impl futures_util::Sink<Bytes> + Unpin),
    mut answers: UnboundedReceiver<Bytes>,
    unread_bytes: &AtomicUsize,
) {
    while let Some(frame) = answers.recv().await {
        let length = frame.len();
        if input.send(frame).await.is_err() {
            return;
        }
        unread_bytes.fetch_sub(length, Ordering::Relaxed);
    }
}

async fn answered(host: &impl Host, id: u64, request: Request) -> (u64, Outcome) {
    (id, host.answer(id, request).await)
}

/// What was exchanged with a worker so far.
struct Exchange<'a, H> {
    bounds: ServeBounds,
    host: &'a H,
    sender: UnboundedSender<Bytes>,
    unread_bytes: &'a AtomicUsize,
    /// Calls that start when others have ended.
    waiting: VecDeque<(u64, Request, usize)>,
    waiting_bytes: usize,
    calls: usize,
    others: usize,
    progress_reports: usize,
    log_bytes: usize,
}

impl<H: Host> Exchange<'_, H> {
    /// The next call that may start.
    fn next_call(&mut self) -> Option<(u64, Request)> {
        if self.unread_bytes.load(Ordering::Relaxed) > UNREAD_BYTES_MAX {
            return None;
        }
        let (id, request, bytes) = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes;
        Some((id, request))
    }

    /// Reads a frame. Returns a request that starts at once.
    fn read(&mut self, frame: &[u8]) -> Result<Option<(u64, Request)>, ScriptEnd> {
        match serde_json::from_slice(frame) {
            Ok(FromWorker::Request { id, request }) => self.accept(id, request, frame.len()),
            Ok(FromWorker::Language(language)) => {
                self.host.language(language);
                Ok(None)
            }
            Ok(FromWorker::Log { text }) => {
                self.log_bytes = self.log_bytes.saturating_add(text.len() + LINE_BYTES);
                if self.log_bytes > self.bounds.log_bytes_max.saturating_add(LINE_BYTES) {
                    return Err(ScriptEnd::Lost);
                }
                self.host.log(&text);
                Ok(None)
            }
            Ok(FromWorker::Progress { message, done, total }) => {
                self.progress_reports += 1;
                if self.progress_reports > PROGRESS_MAX {
                    return Err(exceeded(&format!("reported progress more than {PROGRESS_MAX} times")));
                }
                self.host.progress(&message, done, total);
                Ok(None)
            }
            Ok(FromWorker::Emit { item }) => {
                self.host.emit(item).map(|()| None).map_err(|bound| exceeded(&bound))
            }
            Ok(FromWorker::Done { value }) => Err(self.check_result(value)),
            Ok(FromWorker::Failed(error)) => Err(ScriptEnd::Failed(error)),
            Ok(FromWorker::Ready) | Err(_) => Err(ScriptEnd::Lost),
        }
    }

    fn accept(
        &mut self,
        id: u64,
        request: Request,
        bytes: usize,
    ) -> Result<Option<(u64, Request)>, ScriptEnd> {
        if !matches!(request, Request::Call { .. }) {
            self.others += 1;
            if self.others > OTHER_REQUESTS_MAX {
                let text = format!("searched, asked and slept more than {OTHER_REQUESTS_MAX} times");
                return Err(exceeded(&text));
            }
            return Ok(Some((id, request)));
        }
        self.calls += 1;
        if self.calls > self.bounds.calls_max {
            return Err(exceeded(&format!("made more than {} calls", self.bounds.calls_max)));
        }
        self.waiting_bytes += bytes;
        if self.waiting_bytes > WAITING_BYTES_MAX {
            let text =
                format!("made calls at once whose arguments are longer than {} MiB", WAITING_BYTES_MAX >> 20);
            return Err(exceeded(&text));
        }
        self.waiting.push_back((id, request, bytes));
        Ok(None)
    }

    fn check_result(&self, value: Json) -> ScriptEnd {
        let (bytes, most) = (value.as_str().len(), self.bounds.result_bytes_max);
        if bytes > most {
            return exceeded(&format!("returned {bytes} bytes; at most {most} are passed on"));
        }
        ScriptEnd::Value(value)
    }

    /// Queues an answer.
    fn send(&self, id: u64, outcome: Outcome) -> Result<(), ScriptEnd> {
        let frame = frame_of(&ToWorker::Answer { id, outcome }).map_err(|_| ScriptEnd::Lost)?;
        self.unread_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        // A worker that reads no more has ended, and the end of its other pipe says so.
        let _ = self.sender.send(frame);
        Ok(())
    }
}

/// The end of a script that did too much. `what` follows "the script".
fn exceeded(what: &str) -> ScriptEnd {
    ScriptEnd::Exceeded(format!("the script {what}"))
}

#[cfg(test)]
mod tests;
