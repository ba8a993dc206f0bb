//! A request to a service with a deadline, and one retry after a transient failure.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use vmcp_timing::Backoff;

use crate::client::{Client, ServiceCall};
use crate::failure::{FailureKind, ServiceFailure};

/// The delay before the retry when the service specifies none; jitter makes it shorter.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Sends the request, and retries once after a transient failure. `timeout` bounds both attempts and the delay
/// together.
pub(crate) async fn send_with_retry(
    client: &Client,
    call: &ServiceCall,
    timeout: Duration,
) -> Result<Bytes, ServiceFailure> {
    let deadline = Instant::now() + timeout;
    let timed_out = |_| {
        let text = format!("{}: no answer to {} within {timeout:?}", client.host(), call.log_name());
        ServiceFailure::new(FailureKind::TimedOut, text)
    };
    let mut failure = match timeout_at(deadline, client.send_once(call)).await.map_err(timed_out)? {
        Ok(bytes) => return Ok(bytes),
        Err(failure) if !failure.is_transient() => return Err(failure),
        Err(failure) => failure,
    };
    let retry_delay =
        failure.retry_after.unwrap_or_else(|| Backoff::new(RETRY_DELAY, RETRY_DELAY).next_delay());
    if Instant::now() + retry_delay >= deadline {
        if failure.retry_after.is_some() {
            failure.text.push_str(&format!(" and asks to come back in {retry_delay:?}"));
        }
        return Err(failure);
    }
    sleep(retry_delay).await;
    timeout_at(deadline, client.send_once(call)).await.map_err(timed_out)?
}
