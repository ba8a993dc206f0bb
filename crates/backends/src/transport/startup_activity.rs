//! Output of a backend that is being started. It extends the connect time-out, and an operator can read its
//! last line. A first start may install the server, which takes minutes and is reported on standard error.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use vmcp_domain::{StartupProgress, escape_controls};

use crate::sync::UnpoisonedMutex;

/// Maximum number of characters shown of the last line.
const LINE_CHARS_MAX: usize = 160;

/// The startup activity of one backend, while a start is in progress.
#[derive(Debug, Default)]
pub(crate) struct StartupActivity(UnpoisonedMutex<Option<StartState>>);

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

    /// Waits until there was no output for `silent`, or the start has taken `whole`.
    pub(crate) async fn wait_for_timeout(&self, silent: Duration, whole: Duration) {
        loop {
            let due = match &*self.0.lock() {
                Some(start) => (start.last_activity + silent).min(start.started_at + whole),
                None => return,
            };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
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
        let signs = Arc::new(StartupActivity::default());
        let began = Instant::now();
        let _start = signs.start();
        let given_up = tokio::spawn({
            let signs = Arc::clone(&signs);
            async move { signs.wait_for_timeout(Duration::from_secs(30), Duration::from_secs(100)).await }
        });
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(25)).await;
            signs.record_activity();
        }
        given_up.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 100);
        let silent = Instant::now();
        let _start = signs.start();
        signs.wait_for_timeout(Duration::from_secs(30), Duration::from_secs(100)).await;
        assert_eq!(silent.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_reads_for_how_long_and_the_last_line() {
        let signs = Arc::new(StartupActivity::default());
        signs.record_line("before");
        assert_eq!(signs.starting(), None);
        let start = signs.start();
        tokio::time::sleep(Duration::from_secs(40)).await;
        signs.record_line("npm\u{1b}[2K installs\t7 packages \n");
        signs.record_line("  ");
        let Some(StartupProgress { elapsed, last_line }) = signs.starting() else {
            panic!("it is being started")
        };
        assert_eq!(
            (elapsed.as_secs(), last_line.as_deref()),
            (40, Some("npm\\u001b[2K installs 7 packages"))
        );
        drop(start);
        assert_eq!(signs.starting(), None);
    }
}
