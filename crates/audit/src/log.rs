//! The writer of records: a bounded queue in front of a file or standard output. A record that does not fit
//! in the queue is dropped and counted, and a `vmcp_audit_lost` line between the other lines reports the
//! count.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::kinds::RECORDS_LOST;
use crate::record_time;

/// The output of audit records.
pub type Output = Box<dyn Write + Send>;

/// Counts the records that were written and lost.
pub trait RecordObserver: Send + Sync {
    /// This number of records was written.
    fn on_written(&self, count: u64);

    /// This number of records was lost: the queue was full, or the output could not be written.
    fn on_lost(&self, count: u64);
}

/// The most records that wait to be written.
const QUEUED_RECORDS_MAX: usize = 8192;
/// The most bytes of the records in the queue together: 64 MiB.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// A batch is written once it has this size (256 KiB) or the queue is empty.
const BATCH_BYTES: usize = 256 << 10;
/// The least time between two warnings in the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

enum QueueEntry {
    Record(Vec<u8>),
    /// Signals that all earlier entries have been written.
    Flush(SyncSender<()>),
}

/// The sending end of the queue.
pub(crate) struct RecordWriter {
    queue: SyncSender<QueueEntry>,
    state: Arc<QueueState>,
}

struct QueueState {
    queued_bytes: AtomicUsize,
    /// Dropped records that no line in the file reports yet.
    unreported: AtomicU64,
    observer: Arc<dyn RecordObserver>,
}

impl QueueState {
    fn count_lost(&self, count: u64) {
        self.unreported.fetch_add(count, Ordering::Relaxed);
        self.observer.on_lost(count);
    }
}

impl RecordWriter {
    /// Starts the writer thread. The thread ends when the queue is dropped.
    pub(crate) fn start(output: Output, observer: Arc<dyn RecordObserver>, component: String) -> Self {
        let (queue, entries) = sync_channel(QUEUED_RECORDS_MAX);
        let state = Arc::new(QueueState { queued_bytes: 0.into(), unreported: 0.into(), observer });
        let writer = WriterThread {
            output,
            state: state.clone(),
            component,
            is_torn: false,
            warned_at: None,
            missing_since_warning: 0,
        };
        std::thread::spawn(move || writer.run(&entries));
        Self { queue, state }
    }

    /// Adds one line, including its line break. Drops the record instead of blocking if the queue is full.
    pub(crate) fn enqueue(&self, line: Vec<u8>) {
        let size = line.len();
        let queued = self.state.queued_bytes.fetch_add(size, Ordering::Relaxed);
        if queued + size > QUEUED_BYTES_MAX || self.queue.try_send(QueueEntry::Record(line)).is_err() {
            self.state.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            self.state.count_lost(1);
        }
    }

    /// Waits until all earlier records are written. Returns false if that takes longer than `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let (flushed_tx, flushed) = sync_channel(1);
        let deadline = Instant::now() + timeout;
        let mut entry = QueueEntry::Flush(flushed_tx);
        // A send with a deadline does not exist for this channel, so it polls. The queue empties one batch at
        // a time.
        while let Err(rejected) = self.queue.try_send(entry) {
            entry = match rejected {
                std::sync::mpsc::TrySendError::Full(entry) if Instant::now() < deadline => entry,
                std::sync::mpsc::TrySendError::Full(_) | std::sync::mpsc::TrySendError::Disconnected(_) => {
                    return false;
                }
            };
            std::thread::sleep(Duration::from_millis(5));
        }
        flushed.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

struct WriterThread {
    output: Output,
    state: Arc<QueueState>,
    component: String,
    /// The last write failed, perhaps in the middle of a line.
    is_torn: bool,
    warned_at: Option<Instant>,
    /// The number of lost records since the last warning.
    missing_since_warning: u64,
}

impl WriterThread {
    fn run(mut self, entries: &Receiver<QueueEntry>) {
        let mut batch = Vec::new();
        while let Ok(first) = entries.recv() {
            let (mut next, mut count, mut flushes) = (Some(first), 0, Vec::new());
            while let Some(entry) = next {
                match entry {
                    QueueEntry::Record(line) => {
                        batch.extend_from_slice(&line);
                        self.state.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                        count += 1;
                    }
                    QueueEntry::Flush(flushed_tx) => flushes.push(flushed_tx),
                }
                next = if batch.len() < BATCH_BYTES { entries.try_recv().ok() } else { None };
            }
            self.write(&mut batch, count);
            for flushed_tx in flushes {
                let _ = flushed_tx.try_send(());
            }
        }
    }

    fn write(&mut self, batch: &mut Vec<u8>, count: u64) {
        let missing = self.state.unreported.swap(0, Ordering::Relaxed);
        if missing > 0 {
            self.append_loss_note(batch, missing);
        }
        let written = self.write_batch(batch);
        batch.clear();
        if let Err(error) = &written {
            self.is_torn = true;
            // The note about earlier losses was lost with the batch, so the next batch reports them again.
            self.state.unreported.fetch_add(missing, Ordering::Relaxed);
            self.state.count_lost(count);
            if self.may_warn() {
                tracing::warn!(%error, "audit records cannot be written");
            }
        } else {
            self.is_torn = false;
            self.state.observer.on_written(count);
            self.missing_since_warning += missing;
            if self.missing_since_warning > 0 && self.may_warn() {
                tracing::warn!(count = self.missing_since_warning, "audit records were lost");
                self.missing_since_warning = 0;
            }
        }
    }

    fn write_batch(&mut self, batch: &[u8]) -> std::io::Result<()> {
        if self.is_torn {
            self.output.write_all(b"\n")?;
        }
        self.output.write_all(batch)?;
        self.output.flush()
    }

    fn append_loss_note(&self, batch: &mut Vec<u8>, missing: u64) {
        let loss_record = json!({
            "type": RECORDS_LOST,
            "logged_at": record_time::format(vmcp_timing::time_of_day().0),
            "outcome": "error",
            "component": self.component,
            "metadata": {"extra": {"count": missing}},
        });
        batch.extend_from_slice(loss_record.to_string().as_bytes());
        batch.push(b'\n');
    }

    fn may_warn(&mut self) -> bool {
        let may = self.warned_at.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL);
        if may {
            self.warned_at = Some(Instant::now());
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[derive(Default)]
    struct Counters {
        written: AtomicU64,
        lost: AtomicU64,
    }

    impl RecordObserver for Counters {
        fn on_written(&self, count: u64) {
            self.written.fetch_add(count, Ordering::SeqCst);
        }

        fn on_lost(&self, count: u64) {
            self.lost.fetch_add(count, Ordering::SeqCst);
        }
    }

    /// A writer that waits for a message before each write, and fails if the message is false.
    struct Slow(Receiver<bool>, Sender<String>, Sender<()>);

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            let _ = self.2.send(());
            if !self.0.recv().unwrap_or(true) {
                return Err(std::io::Error::other("full"));
            }
            let _ = self.1.send(String::from_utf8_lossy(text).into_owned());
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_holds_nobody_up_and_says_what_is_missing() {
        let ((go, gone), (told, written), (enter, entered)) = (channel(), channel(), channel());
        let counters = Arc::new(Counters::default());
        let log = RecordWriter::start(Box::new(Slow(gone, told, enter)), counters.clone(), "c".to_owned());
        log.enqueue(b"{}\n".to_vec());
        // The writer thread is blocked now, so nothing leaves the queue.
        entered.recv_timeout(Duration::from_secs(60)).unwrap();
        for _ in 1..3 * QUEUED_RECORDS_MAX {
            log.enqueue(b"{}\n".to_vec());
        }
        let lost = counters.lost.load(Ordering::SeqCst);
        assert!(lost >= QUEUED_RECORDS_MAX as u64, "{lost}");
        assert!(!log.flush(Duration::from_millis(10)), "nothing is written yet");
        drop(go);
        assert!(log.flush(Duration::from_secs(60)));
        let text: String = written.try_iter().collect();
        assert!(text.contains(r#""type":"vmcp_audit_lost""#), "{text}");
        assert_eq!(
            text.lines().filter(|line| *line == "{}").count() as u64,
            counters.written.load(Ordering::SeqCst)
        );
        assert_eq!(counters.written.load(Ordering::SeqCst) + lost, 3 * QUEUED_RECORDS_MAX as u64);
    }

    #[test]
    fn a_write_that_fails_is_told_of_later() {
        let ((go, gone), (told, written), (enter, entered)) = (channel(), channel(), channel());
        drop(entered);
        let counters = Arc::new(Counters::default());
        let log = RecordWriter::start(Box::new(Slow(gone, told, enter)), counters.clone(), "c".to_owned());
        log.enqueue(b"first\n".to_vec());
        go.send(false).unwrap();
        // All later writes succeed, including the note about the loss if it is written before the next line.
        drop(go);
        assert!(log.flush(Duration::from_secs(60)));
        log.enqueue(b"second\n".to_vec());
        assert!(log.flush(Duration::from_secs(60)));
        let text: String = written.try_iter().collect();
        assert!(text.starts_with('\n') && text.lines().any(|line| line == "second"), "{text}");
        assert!(text.contains(r#""count":1"#), "{text}");
        assert_eq!((counters.written.load(Ordering::SeqCst), counters.lost.load(Ordering::SeqCst)), (1, 1));
    }
}
