//! The timer for the request heads of one connection. hyper starts a new time-out for each request, and
//! nearly none of them expires. Registering and deregistering a Tokio timer costs more than reading the head.
//! Therefore all time-outs of a connection share one Tokio timer, which is reset only when it expires or a
//! time-out is due earlier.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;

/// The shared Tokio timer; `None` until a time-out is polled for the first time.
type SharedSleep = Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>;

/// The timer of one connection. It serves one time-out at a time well, because a connection reads its heads
/// one after the other.
#[derive(Debug, Default)]
pub(crate) struct HeadTimer(SharedSleep);

/// One time-out of a [`HeadTimer`].
struct HeadTimeout {
    deadline: Instant,
    shared_sleep: SharedSleep,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadTimeout { deadline, shared_sleep: Arc::clone(&self.0) })
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        *sleep = self.sleep_until(new_deadline);
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl Sleep for HeadTimeout {}

impl Future for HeadTimeout {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let due = tokio::time::Instant::from_std(self.deadline);
        let mut shared_sleep = self.shared_sleep.lock();
        let shared_sleep = shared_sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if shared_sleep.deadline() > due {
            shared_sleep.as_mut().reset(due);
        }
        // The timer may expire for an earlier head that arrived in time; then it is set to this deadline.
        loop {
            ready!(shared_sleep.as_mut().poll(cx));
            if shared_sleep.deadline() >= due {
                return Poll::Ready(());
            }
            shared_sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_ends_at_its_own_time() {
        let timer = HeadTimer::default();
        let begun = tokio::time::Instant::now();
        let seconds = || begun.elapsed().as_secs();
        // A dropped time-out does not move the shared timer.
        let mut first = timer.sleep(WAIT);
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        tokio::time::advance(Duration::from_secs(7)).await;
        timer.sleep(WAIT).await;
        assert_eq!(seconds(), 17);
        timer.sleep(WAIT).await;
        assert_eq!(seconds(), 27);
        // A shorter time-out is not late, and a postponed one is not early.
        let mut long = timer.sleep(10 * WAIT);
        assert!(futures_util::poll!(&mut long).is_pending());
        let mut short = timer.sleep(Duration::from_secs(1));
        timer.reset(&mut short, timer.now() + Duration::from_secs(2));
        short.await;
        assert_eq!(seconds(), 29);
        timer.reset(&mut long, timer.now());
        long.await;
        assert_eq!(seconds(), 29);
    }
}
