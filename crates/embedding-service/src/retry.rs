//! A request to a service with a deadline, and one retry after a transient failure.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Client, ServiceCall};
use crate::failure::{FailureKind, ServiceFailure};

/// The delay before the retry when the service specifies none.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Sends the request, and retries once after a transient failure. `wait` bounds both attempts and the delay
/// together.
pub(crate) async fn send_with_retry(
    client: &Client,
    ask: &ServiceCall,
    wait: Duration,
) -> Result<Bytes, ServiceFailure> {
    let deadline = Instant::now() + wait;
    let late = |_| {
        let text = format!("{}: no answer to {} within {wait:?}", client.host(), ask.log_name());
        ServiceFailure::new(FailureKind::TimedOut, text)
    };
    let mut failure = match timeout_at(deadline, client.send_once(ask)).await.map_err(late)? {
        Ok(bytes) => return Ok(bytes),
        Err(failure) if !failure.is_transient() => return Err(failure),
        Err(failure) => failure,
    };
    let pause = failure.retry_after.unwrap_or_else(jittered_delay);
    if Instant::now() + pause >= deadline {
        if failure.retry_after.is_some() {
            failure.text.push_str(&format!(" and asks to come back in {pause:?}"));
        }
        return Err(failure);
    }
    sleep(pause).await;
    timeout_at(deadline, client.send_once(ask)).await.map_err(late)?
}

/// Between half of the delay and the whole delay, so that replicas do not retry at the same moment.
fn jittered_delay() -> Duration {
    let mut byte = [0_u8];
    // Without randomness the delay has no jitter.
    let share = getrandom::fill(&mut byte).map_or(u32::from(u8::MAX), |()| u32::from(byte[0]));
    RETRY_DELAY / 2 + RETRY_DELAY / 2 * share / 255
}
