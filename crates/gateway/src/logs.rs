//! Log output on standard error: text on a terminal and JSON elsewhere. Log lines name backends, tools and
//! error classes, but never arguments, results, tokens or header values.
//!
//! A separate thread writes the lines: a client that starts the gateway and never reads its standard error
//! must not block requests. Lines that do not fit in the queue are dropped and counted.

mod fields;
mod sampler;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::terminal;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Json};
use tracing_subscriber::fmt::{Formatter, MakeWriter, SubscriberBuilder};
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};
use vmcp::config::LogLevel;
use vmcp::process::environment;
use vmcp_domain::escape_controls;

use crate::cli::LogFormat;
use crate::logs::sampler::{CallsiteBudgets, Sampler};

/// The most lines that wait to be written.
const QUEUED_LINES_MAX: usize = 4096;
/// How long the program waits for queued lines before it ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The log output of this process.
static OUTPUT: OnceLock<Output> = OnceLock::new();
/// The sampler's counts of the lines that it dropped in this process.
static DROPPED_LINES: OnceLock<Arc<CallsiteBudgets>> = OnceLock::new();

/// Starts logging. `VMCP_LOG`, or `RUST_LOG` if that is not set, overrides `level`. An invalid filter is ignored
/// with a warning.
pub(crate) fn start(level: LogLevel, format: Option<LogFormat>) {
    let chosen = environment("VMCP_LOG").or_else(|| environment("RUST_LOG"));
    let (filter, invalid) = match chosen.map(EnvFilter::try_new).transpose() {
        Ok(filter) => (filter, None),
        Err(error) => (None, Some(error)),
    };
    let is_human = match format {
        Some(LogFormat::Human) => true,
        Some(LogFormat::Json) => false,
        None => io::stderr().is_terminal(),
    };
    let coloured = is_human && terminal::has_colours(&io::stderr());
    let output = OUTPUT.get_or_init(|| Output { has_colours: coloured, ..Output::new(io::stderr()) }).clone();
    let builder = tracing_subscriber::fmt().with_writer(output);
    match filter {
        Some(filter) => install_subscriber(is_human, coloured, builder.with_env_filter(filter)),
        // A plain level costs less for each span than an `EnvFilter`.
        None => install_subscriber(is_human, coloured, builder.with_max_level(max_level(level))),
    }
    if let Some(error) = invalid {
        tracing::warn!(%error, "the log filter in VMCP_LOG or RUST_LOG is invalid and is ignored");
    }
}

fn max_level(level: LogLevel) -> tracing::Level {
    match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    }
}

type Builder<F> = SubscriberBuilder<DefaultFields, Format, F, Output>;
type Human = Formatter<fields::HumanFields, Format, Output>;
type JsonLines = Formatter<fields::JsonFields, Format<Json>, Output>;

fn install_subscriber<F>(is_human: bool, coloured: bool, builder: Builder<F>)
where
    F: Layer<Human> + Layer<JsonLines> + Send + Sync + 'static,
    Layered<F, Human>: tracing::Subscriber + for<'a> LookupSpan<'a>,
    Layered<F, JsonLines>: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let sampler = Sampler::start();
    DROPPED_LINES.get_or_init(|| sampler.budgets());
    // If logging has already been started (in tests), the first subscriber stays installed.
    let _ = if is_human {
        let builder = builder.with_ansi(coloured).with_target(false);
        builder.fmt_fields(fields::HumanFields).finish().with(sampler).try_init()
    } else {
        let builder = builder.json().flatten_event(true).with_current_span(false);
        builder.fmt_fields(fields::JsonFields).finish().with(sampler).try_init()
    };
}

/// Waits until the queued lines are written, for at most [`FLUSH_TIMEOUT`].
pub(crate) fn flush() {
    if let Some(statements) = DROPPED_LINES.get() {
        statements.report_dropped();
    }
    if let Some(output) = OUTPUT.get() {
        output.flush_within(FLUSH_TIMEOUT);
    }
}

enum Entry {
    Line(Vec<u8>),
    /// Signals that all earlier entries have been written.
    Flush(SyncSender<()>),
}

/// A bounded queue of lines in front of a writer that may be slow.
#[derive(Clone)]
struct Output {
    queue: SyncSender<Entry>,
    lost_count: Arc<AtomicU64>,
    /// Whether the lines contain colour sequences.
    has_colours: bool,
}

impl Output {
    fn new(writer: impl Write + Send + 'static) -> Self {
        let (queue, entries) = sync_channel(QUEUED_LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&lost);
        std::thread::spawn(move || write_all(writer, &entries, &count));
        Self { queue, lost_count: lost, has_colours: false }
    }

    /// Converts one event to one line without control characters other than colour sequences. Text from
    /// backends and clients must not look like another log line and must not control the terminal.
    fn escape_event(&self, event: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(event);
        let line = text.trim_end_matches('\n').replace('\n', "\\n");
        let safe = match self.has_colours {
            true => escape_outside_colours(&line),
            false => escape_controls(&line).into_owned(),
        };
        (safe + "\n").into_bytes()
    }

    fn flush_within(&self, timeout: Duration) {
        let (mark, flushed) = sync_channel(1);
        // If the queue is full, standard error is not being read, so waiting would not help.
        if self.queue.try_send(Entry::Flush(mark)).is_ok() {
            let _ = flushed.recv_timeout(timeout);
        }
    }
}

/// Escapes every control character except the sequences that set a colour. Only the formatter writes those
/// sequences, because values are escaped earlier ([`fields::HumanFields`]).
fn escape_outside_colours(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("\x1b[") {
        let sequence = &rest[start + 2..];
        let length = sequence.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
        // The end is after the `m` of a colour sequence, or after the escape character of any other sequence.
        let colour = sequence[length..].starts_with('m');
        let end = if colour { start + 2 + length + 1 } else { start + 1 };
        safe += &escape_controls(&rest[..start]);
        safe += &if colour { Cow::Borrowed(&rest[start..end]) } else { escape_controls(&rest[start..end]) };
        rest = &rest[end..];
    }
    safe + &escape_controls(rest)
}

fn write_all(mut writer: impl Write, entries: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(entry) = entries.recv() {
        // A write error is ignored: if standard error is closed, there is no reader of the log.
        let _ = match entry {
            Entry::Line(line) => writer.write_all(&line),
            Entry::Flush(mark) => {
                let _ = mark.try_send(());
                Ok(())
            }
        };
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(writer, "vmcp: {count} log lines were lost: standard error is not read in time");
        }
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Output {
    /// Queues one event. The subscriber writes each event in a single call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let safe = self.escape_event(line);
        if self.queue.try_send(Entry::Line(safe)).is_err() {
            self.lost_count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Collects what is written.
    #[derive(Clone, Default)]
    pub(super) struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

    impl SharedBuffer {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for SharedBuffer {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for SharedBuffer {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        let output = Output::new(io::sink());
        let event = "it says \x1b[2J\u{9b}31m\u{202e}x\nFAKE line\r\n".as_bytes();
        let plain = String::from_utf8(output.escape_event(event)).unwrap();
        assert_eq!(plain, "it says \\u001b[2J\\u009b31m\\u202ex\\nFAKE line\\u000d\n");
        let coloured = Output { has_colours: true, ..output };
        let event = b"\x1b[32m INFO\x1b[0m it says \x1b[2J\x1b[1;x\x1b";
        let line = String::from_utf8(coloured.escape_event(event)).unwrap();
        assert_eq!(line, "\x1b[32m INFO\x1b[0m it says \\u001b[2J\\u001b[1;x\\u001b\n");
    }

    /// A writer that waits for a message before each write.
    struct Slow(Receiver<()>, Sender<String>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up() {
        let ((go, gone), (told, lines)) = (channel(), channel());
        let mut output = Output::new(Slow(gone, told));
        for _ in 0..QUEUED_LINES_MAX + 10 {
            output.write_all(b"line\n").unwrap();
        }
        output.flush_within(Duration::from_secs(60));
        drop(go);
        let mut read: Vec<String> = Vec::new();
        while read.len() < QUEUED_LINES_MAX || !read.concat().contains("were lost") {
            read.push(lines.recv_timeout(Duration::from_secs(60)).unwrap());
        }
    }

    #[test]
    fn the_last_lines_are_waited_for() {
        let ((go, gone), (told, lines)) = (channel(), channel());
        drop(go);
        let mut output = Output::new(Slow(gone, told));
        output.write_all(b"last\n").unwrap();
        output.flush_within(Duration::from_secs(60));
        assert_eq!(lines.try_recv().unwrap(), "last\n");
    }
}
