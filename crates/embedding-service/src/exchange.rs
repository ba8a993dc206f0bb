//! A request to a service with its deadline, and one more try when the first failure may pass.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Ask, Client};
use crate::failure::{Failure, Kind};

/// How long to wait before the second try when the service does not say.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks within `wait`, both tries and the time between them included.
pub(crate) async fn ask(client: &Client, ask: &Ask, wait: Duration) -> Result<Bytes, Failure> {
    let deadline = Instant::now() + wait;
    let late = |_| {
        let text = format!("{}: no answer to {} within {wait:?}", client.host(), ask.name());
        Failure::new(Kind::Late, text)
    };
    let mut failure = match timeout_at(deadline, client.once(ask)).await.map_err(late)? {
        Ok(bytes) => return Ok(bytes),
        Err(failure) if !failure.is_passing() => return Err(failure),
        Err(failure) => failure,
    };
    let pause = failure.pause.unwrap_or_else(jittered);
    if Instant::now() + pause >= deadline {
        if failure.pause.is_some() {
            failure.text.push_str(&format!(" and asks to come back in {pause:?}"));
        }
        return Err(failure);
    }
    sleep(pause).await;
    timeout_at(deadline, client.once(ask)).await.map_err(late)?
}

/// Between half of the pause and the pause, so that replicas do not knock at the same moment.
fn jittered() -> Duration {
    let mut byte = [0_u8];
    // Without randomness the pause is merely without jitter.
    let share = getrandom::fill(&mut byte).map_or(u32::from(u8::MAX), |()| u32::from(byte[0]));
    PAUSE / 2 + PAUSE / 2 * share / 255
}
