//! Limits how many lines one log statement writes: refused calls, probing clients and unreachable backends
//! must not fill a disk. Each statement has a token bucket. Lines beyond it are dropped, and one line reports
//! how many.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The burst of one statement, in lines. A start with a hundred backends is within it.
const BURST: f64 = 200.0;
/// The sustained rate of one statement, in lines a second.
const RATE: f64 = 20.0;
/// How long dropped lines are counted before a line reports them.
const REPORT_DELAY: Duration = Duration::from_secs(1);

/// Drops lines of a statement that logs too often. Lines of the levels `debug` and `trace` are never dropped.
pub(super) struct Sampler {
    budgets: Arc<CallsiteBudgets>,
    /// Wakes the thread that reports dropped lines.
    wake: SyncSender<()>,
}

/// The token buckets by call site. Their number is bounded by the number of log statements in the program.
#[derive(Default)]
pub(super) struct CallsiteBudgets(Mutex<HashMap<Identifier, LineBudget>>);

/// The token bucket of one log statement.
struct LineBudget {
    tokens: f64,
    refilled_at: Instant,
    /// Dropped lines that have not been reported yet.
    unreported: u64,
    message: String,
}

impl Sampler {
    /// Starts the thread that reports dropped lines. It ends with the sampler.
    pub(super) fn start() -> Self {
        let statements = Arc::<CallsiteBudgets>::default();
        let (wake, woken) = sync_channel(1);
        let reporter_budgets = Arc::clone(&statements);
        std::thread::spawn(move || {
            while woken.recv().is_ok() {
                std::thread::sleep(REPORT_DELAY);
                reporter_budgets.report_dropped();
            }
        });
        Self { budgets: statements, wake }
    }

    /// The token buckets, for a report at the end of the program.
    pub(super) fn budgets(&self) -> Arc<CallsiteBudgets> {
        Arc::clone(&self.budgets)
    }
}

impl<S: Subscriber> Layer<S> for Sampler {
    fn event_enabled(&self, event: &Event<'_>, _ctx: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // The reports of dropped lines are exempt; [`REPORT_DELAY`] limits their rate.
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let admitted = self.budgets.admit(&metadata.callsite(), Instant::now());
        if !admitted {
            let mut message = MessageVisitor::default();
            event.record(&mut message);
            self.budgets.count_dropped(&metadata.callsite(), message.0);
            // If the channel is full, the thread is already awake and reports this line too.
            let _ = self.wake.try_send(());
        }
        admitted
    }
}

impl CallsiteBudgets {
    fn admit(&self, statement: &Identifier, now: Instant) -> bool {
        let mut statements = self.0.lock();
        let budget = statements.entry(statement.clone()).or_insert_with(|| LineBudget {
            tokens: BURST,
            refilled_at: now,
            unreported: 0,
            message: String::new(),
        });
        let since = now.saturating_duration_since(budget.refilled_at).as_secs_f64();
        budget.tokens = since.mul_add(RATE, budget.tokens).min(BURST);
        budget.refilled_at = now;
        let admitted = budget.tokens >= 1.0;
        if admitted {
            budget.tokens -= 1.0;
        }
        admitted
    }

    fn count_dropped(&self, statement: &Identifier, message: String) {
        let mut statements = self.0.lock();
        if let Some(budget) = statements.get_mut(statement) {
            budget.unreported += 1;
            budget.message = message;
        }
    }

    /// Logs how many lines were dropped since the last report.
    pub(super) fn report_dropped(&self) {
        for (message, count) in self.take_dropped() {
            tracing::warn!(count, left_out = message, "log lines were left out: too many of one kind");
        }
    }

    /// Returns and resets the counts since the last report: the last message of each statement, and the
    /// number of lines.
    fn take_dropped(&self) -> Vec<(String, u64)> {
        let mut statements = self.0.lock();
        let untold = statements.values_mut().filter(|budget| budget.unreported > 0);
        untold
            .map(|budget| (std::mem::take(&mut budget.message), std::mem::take(&mut budget.unreported)))
            .collect()
    }
}

/// Extracts the message of an event.
#[derive(Default)]
struct MessageVisitor(String);

impl Visit for MessageVisitor {
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
    use crate::logs::tests::SharedBuffer;

    #[test]
    fn a_flood_is_cut_and_counted_and_other_lines_stay() {
        const FLOOD: u64 = 5000;
        let (wake, _woken) = sync_channel(1);
        let (sampler, lines) = (Sampler { budgets: Arc::default(), wake }, SharedBuffer::default());
        let statements = sampler.budgets();
        let writer = tracing_subscriber::fmt().with_writer(lines.clone()).with_max_level(Level::DEBUG);
        tracing::subscriber::with_default(writer.finish().with(sampler), || {
            for number in 0..FLOOD {
                tracing::info!(number, "flood");
                tracing::debug!(number, "asked for");
            }
            tracing::info!("rare");
            let count = |message: &str| lines.text().matches(message).count() as u64;
            assert_eq!((count("asked for"), count("rare")), (FLOOD, 1));
            let untold = statements.take_dropped();
            let [(message, left_out)] = &untold[..] else { panic!("{untold:?}") };
            assert_eq!((&**message, count("flood") + left_out), ("flood", FLOOD));
        });
    }

    #[test]
    fn a_burst_is_written_and_then_so_many_a_second() {
        let (statements, start) = (CallsiteBudgets::default(), Instant::now());
        let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
        let statement = tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("any").metadata().map(tracing::Metadata::callsite).unwrap()
        });
        let admitted = |now| (0..1000).filter(|_| statements.admit(&statement, now)).count();
        assert_eq!(admitted(start), 200);
        assert_eq!(admitted(start + Duration::from_secs(1)), 20);
        assert_eq!(admitted(start + Duration::from_secs(3600)), 200);
    }
}
