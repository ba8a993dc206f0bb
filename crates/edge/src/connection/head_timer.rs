//! The clock of the heads of one connection. HTTP asks for a new time-out for each request, nearly none of which ever
//! ends, and setting one up and taking it back costs more than reading the head. Here all those of a connection share one
//! entry with the runtime, which moves on only when it runs out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// The entry with the runtime; none before somebody has waited.
type SharedSleep = Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>;

/// The timer of one connection, whose time-outs follow each other.
#[derive(Debug, Default)]
pub(crate) struct HeadTimer(SharedSleep);

/// One time-out.
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
        let mut alarm = self.shared_sleep.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if alarm.deadline() > due {
            alarm.as_mut().reset(due);
        }
        // It may have been set for a head that came in time.
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= due {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due);
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
        // One that is not needed any more leaves the alarm where it is.
        let mut first = timer.sleep(WAIT);
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        tokio::time::advance(Duration::from_secs(7)).await;
        timer.sleep(WAIT).await;
        assert_eq!(seconds(), 17);
        timer.sleep(WAIT).await;
        assert_eq!(seconds(), 27);
        // A shorter one is not late, and one that is put off not early.
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
