//! A bound on how much one statement logs: refused calls, probing clients and dead backends must not fill a disk. The
//! first lines of a second are written, and one line says how many were left out.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How many lines one statement may log in a window.
const LINES_MAX: u64 = 20;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(1);

/// Leaves out lines of a statement that logs too often. Lines of the levels `debug` and `trace` are never left out.
pub(super) struct Sampler {
    windows: Arc<Windows>,
    /// Wakes the thread that tells what was left out.
    wake: SyncSender<()>,
}

/// By the place in the code that logs, so there are only as many as the code has.
#[derive(Default)]
struct Windows(Mutex<HashMap<Identifier, Window>>);

struct Window {
    began: Instant,
    lines: u64,
    /// Lines left out of which no line tells yet.
    untold: u64,
    message: String,
}

impl Sampler {
    /// Starts the thread that tells what was left out. It ends with the sampler.
    pub(super) fn start() -> Self {
        let windows = Arc::<Windows>::default();
        let (wake, woken) = sync_channel(1);
        let told = Arc::clone(&windows);
        std::thread::spawn(move || {
            while woken.recv().is_ok() {
                // What follows within a window is told at once.
                std::thread::sleep(WINDOW);
                for (message, count) in told.take_untold() {
                    tracing::warn!(
                        count,
                        left_out = message,
                        "log lines were left out: too many of one kind"
                    );
                }
            }
        });
        Self { windows, wake }
    }
}

impl<S: Subscriber> Layer<S> for Sampler {
    fn event_enabled(&self, event: &Event<'_>, _ctx: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::INFO {
            return true;
        }
        let admitted = self.windows.admit(event.metadata().callsite(), Instant::now(), || {
            let mut message = Message::default();
            event.record(&mut message);
            message.0
        });
        if !admitted {
            // A thread that is awake already tells this too.
            let _ = self.wake.try_send(());
        }
        admitted
    }
}

impl Windows {
    /// Whether a line may be written. `message` is asked for when the first one may not.
    fn admit(&self, statement: Identifier, now: Instant, message: impl FnOnce() -> String) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(statement).or_insert_with(|| Window {
            began: now,
            lines: 0,
            untold: 0,
            message: String::new(),
        });
        if now.duration_since(window.began) >= WINDOW {
            (window.began, window.lines) = (now, 0);
        }
        window.lines += 1;
        if window.lines <= LINES_MAX {
            return true;
        }
        if window.message.is_empty() {
            window.message = message();
        }
        window.untold += 1;
        false
    }

    /// What was left out since the last time, by its message.
    fn take_untold(&self) -> Vec<(String, u64)> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = windows.values_mut().filter(|window| window.untold > 0);
        untold.map(|window| (window.message.clone(), std::mem::take(&mut window.untold))).collect()
    }
}

/// The message of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::logs::tests::Lines;

    #[test]
    fn a_flood_is_cut_and_counted_and_other_lines_stay() {
        let (sampler, lines) = (Sampler::start(), Lines::default());
        let windows = Arc::clone(&sampler.windows);
        let writer = tracing_subscriber::fmt().with_writer(lines.clone()).with_max_level(Level::DEBUG);
        tracing::subscriber::with_default(writer.finish().with(sampler), || {
            for number in 0..3 * LINES_MAX {
                tracing::info!(number, "flood");
                tracing::debug!(number, "asked for");
            }
            tracing::info!("rare");
        });
        let text = lines.text();
        let count = |message: &str| text.matches(message).count() as u64;
        assert_eq!((count("asked for"), count("rare")), (3 * LINES_MAX, 1));
        // A machine that stops for a second opens another window.
        let (written, untold) = (count("flood"), windows.take_untold());
        let left_out: u64 = untold.iter().map(|(_, count)| count).sum();
        assert!(written >= LINES_MAX && untold.iter().all(|(message, _)| message == "flood"), "{untold:?}");
        // The thread may have told of some already.
        assert!(written + left_out <= 3 * LINES_MAX);
    }

    #[test]
    fn the_next_window_admits_again() {
        let (windows, start) = (Windows::default(), Instant::now());
        let statement = tracing::info_span!("any").metadata().map(tracing::Metadata::callsite).unwrap();
        let admit = |now| windows.admit(statement.clone(), now, || "m".to_owned());
        assert_eq!((0..2 * LINES_MAX).filter(|_| admit(start)).count() as u64, LINES_MAX);
        assert_eq!(windows.take_untold(), [("m".to_owned(), LINES_MAX)]);
        assert_eq!(windows.take_untold(), []);
        assert!(admit(start + WINDOW));
    }
}
