//! Log output: on standard error, human on a terminal and JSON elsewhere. Log lines name backends, tools and error
//! classes, never arguments, results, tokens or header values.
//!
//! Lines are written by a thread of their own: a client that starts the gateway and never reads its standard error
//! must not bring requests to a halt. What does not fit into the queue is counted and lost.

mod fields;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::fmt::format::{DefaultFields, Format, Json};
use tracing_subscriber::fmt::{Formatter, MakeWriter, SubscriberBuilder};
use tracing_subscriber::layer::Layered;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::LogFormat;
use vmcp::config::LogLevel;
use vmcp::process::environment;

/// How many lines wait to be written.
const LINES_MAX: usize = 4096;
/// How long the end of the program waits for them.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Where this process's log goes.
static OUTPUT: OnceLock<Output> = OnceLock::new();

/// Starts logging. `VMCP_LOG` (or `RUST_LOG`) takes the place of `level` when set.
pub(crate) fn start(level: LogLevel, format: Option<LogFormat>) {
    let chosen = environment("VMCP_LOG").or_else(|| environment("RUST_LOG"));
    let filter = chosen.and_then(|text| EnvFilter::try_new(text).ok());
    let human = match format {
        Some(LogFormat::Human) => true,
        Some(LogFormat::Json) => false,
        None => io::stderr().is_terminal(),
    };
    let output = OUTPUT.get_or_init(|| Output::to(io::stderr())).clone();
    let builder = tracing_subscriber::fmt().with_writer(output);
    match filter {
        Some(filter) => write_as(human, builder.with_env_filter(filter)),
        // A level alone costs less for each span than a filter that could say more.
        None => write_as(human, builder.with_max_level(max_level(level))),
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
type Human = Formatter<DefaultFields, Format, Output>;
type JsonLines = Formatter<fields::JsonText, Format<Json>, Output>;

fn write_as<F>(human: bool, builder: Builder<F>)
where
    F: Layer<Human> + Layer<JsonLines> + Send + Sync + 'static,
    Layered<F, Human>: tracing::Subscriber + for<'a> LookupSpan<'a>,
    Layered<F, JsonLines>: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    // A second start (tests) keeps the first.
    let _ = if human {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init()
    } else {
        let builder = builder.json().flatten_event(true).with_current_span(false);
        builder.fmt_fields(fields::JsonText).try_init()
    };
}

/// Waits for the last lines to be written, but not for ever.
pub(crate) fn finish() {
    if let Some(output) = OUTPUT.get() {
        output.finish(LAST_LINES);
    }
}

enum Entry {
    Line(Vec<u8>),
    /// Everything before has been written.
    Mark(SyncSender<()>),
}

/// A queue of lines in front of something that may be slow.
#[derive(Clone)]
struct Output {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Output {
    fn to(writer: impl Write + Send + 'static) -> Self {
        let (queue, entries) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&lost);
        std::thread::spawn(move || write_all(writer, &entries, &count));
        Self { queue, lost }
    }

    fn finish(&self, wait: Duration) {
        let (mark, reached) = sync_channel(1);
        // A full queue is one that nobody reads from.
        if self.queue.try_send(Entry::Mark(mark)).is_ok() {
            let _ = reached.recv_timeout(wait);
        }
    }
}

fn write_all(mut writer: impl Write, entries: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(entry) = entries.recv() {
        // Who closed standard error wants no log.
        let _ = match entry {
            Entry::Line(line) => writer.write_all(&line),
            Entry::Mark(mark) => {
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
    /// Takes one event whole, as the subscriber writes them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Takes a line when it is told to.
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
        let mut output = Output::to(Slow(gone, told));
        for _ in 0..LINES_MAX + 10 {
            output.write_all(b"line\n").unwrap();
        }
        output.finish(Duration::from_secs(60));
        drop(go);
        let mut read: Vec<String> = Vec::new();
        while read.len() < LINES_MAX || !read.concat().contains("were lost") {
            read.push(lines.recv_timeout(Duration::from_secs(60)).unwrap());
        }
    }

    #[test]
    fn the_last_lines_are_waited_for() {
        let ((go, gone), (told, lines)) = (channel(), channel());
        drop(go);
        let mut output = Output::to(Slow(gone, told));
        output.write_all(b"last\n").unwrap();
        output.finish(Duration::from_secs(60));
        assert_eq!(lines.try_recv().unwrap(), "last\n");
    }
}
