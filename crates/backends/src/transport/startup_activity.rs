//! Output of a backend that is being started. It extends the connect time-out, and an operator can read its
//! last line. A first start may install the server, which takes minutes and is reported on standard error.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use vmcp_domain::{StartupProgress, escape_controls};

/// Maximum number of characters shown of the last line.
const LINE_CHARS_MAX: usize = 160;

/// The startup activity of one backend, while a start is in progress.
#[derive(Debug, Default)]
pub(crate) struct StartupActivity(Mutex<Option<StartState>>);

/// The start in progress.
#[derive(Debug)]
struct StartState {
    started_at: Instant,
    last_activity: Instant,
    last_line: Option<String>,
}

impl StartupActivity {
    /// Records the beginning of a start. The start ends when the guard is dropped.
    pub(crate) fn start(self: &Arc<Self>) -> StartGuard {
        let now = Instant::now();
        *self.0.lock() = Some(StartState { started_at: now, last_activity: now, last_line: None });
        StartGuard(Arc::clone(self))
    }

    /// Records output on any stream.
    fn record_activity(&self) {
        if let Some(start) = &mut *self.0.lock() {
            start.last_activity = Instant::now();
        }
    }

    /// Records an output line that is no message.
    pub(crate) fn record_line(&self, text: &str) {
        if let Some(start) = &mut *self.0.lock() {
            let text = text.trim();
            if !text.is_empty() {
                let shown: String = text.chars().take(LINE_CHARS_MAX).collect();
                start.last_line = Some(escape_controls(&shown).replace(['\n', '\t'], " "));
            }
        }
    }

    /// Says which of the two time-outs of [`Self::wait_for_timeout`] has passed.
    pub(crate) fn timeout_text(&self, silent: Duration, total_max: Duration) -> String {
        let start = self.0.lock();
        let (silent, total) = (silent.as_secs(), total_max.as_secs());
        match start.as_ref().filter(|start| start.last_activity > start.started_at) {
            Some(start) if start.started_at.elapsed() >= total_max => {
                format!("it was not ready {total} s after its start")
            }
            Some(_) => format!("it was not ready {silent} s after its last output"),
            None => format!("no answer within {silent} s"),
        }
    }

    /// The last line of the start in progress.
    pub(crate) fn last_line(&self) -> Option<String> {
        self.0.lock().as_ref().and_then(|start| start.last_line.clone())
    }

    /// Waits until there was no output for `silent`, or the start has taken `total_max`.
    pub(crate) async fn wait_for_timeout(&self, silent: Duration, total_max: Duration) {
        loop {
            let deadline = match &*self.0.lock() {
                Some(start) => (start.last_activity + silent).min(start.started_at + total_max),
                None => return,
            };
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    /// The start in progress, for the operator.
    pub(crate) fn starting(&self) -> Option<StartupProgress> {
        let start = self.0.lock();
        let start = start.as_ref()?;
        Some(StartupProgress { elapsed: start.started_at.elapsed(), last_line: start.last_line.clone() })
    }
}

/// Ends a start when it is dropped.
#[derive(Debug)]
pub(crate) struct StartGuard(Arc<StartupActivity>);

impl Drop for StartGuard {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}

/// A stream of the backend on which every byte counts as activity. Installers draw progress without line
/// breaks.
pub(crate) struct ActivityReader<R> {
    pub(crate) reader: R,
    pub(crate) startup_activity: Arc<StartupActivity>,
    /// Cancelled at the first byte.
    pub(crate) first_output: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for ActivityReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.reader).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.startup_activity.record_activity();
            self.first_output.cancel();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_put_the_end_off_and_a_bound_ends_it() {
        let startup_activity = Arc::new(StartupActivity::default());
        let began = Instant::now();
        let _start = startup_activity.start();
        let given_up = tokio::spawn({
            let startup_activity = Arc::clone(&startup_activity);
            async move {
                startup_activity.wait_for_timeout(Duration::from_secs(30), Duration::from_secs(100)).await
            }
        });
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(25)).await;
            startup_activity.record_activity();
        }
        given_up.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 100);
        let silent = Instant::now();
        let _start = startup_activity.start();
        startup_activity.wait_for_timeout(Duration::from_secs(30), Duration::from_secs(100)).await;
        assert_eq!(silent.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_reads_for_how_long_and_the_last_line() {
        let startup_activity = Arc::new(StartupActivity::default());
        startup_activity.record_line("before");
        assert_eq!(startup_activity.starting(), None);
        let start = startup_activity.start();
        tokio::time::sleep(Duration::from_secs(40)).await;
        startup_activity.record_line("npm\u{1b}[2K installs\t7 packages \n");
        startup_activity.record_line("  ");
        let Some(StartupProgress { elapsed, last_line }) = startup_activity.starting() else {
            panic!("it is being started")
        };
        assert_eq!(
            (elapsed.as_secs(), last_line.as_deref()),
            (40, Some("npm\\u001b[2K installs 7 packages"))
        );
        drop(start);
        assert_eq!(startup_activity.starting(), None);
    }
}
