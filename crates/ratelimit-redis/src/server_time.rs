//! Detects that the server's clock was set back, as far as a replica can see it in the replies to heartbeats.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How late a reply may be, and how far two clocks may drift apart between two replies.
const TOLERANCE: Duration = Duration::from_secs(1);

/// The last time that the server's clock showed, and when this replica received it.
#[derive(Debug, Default)]
pub(crate) struct ServerTime {
    last: Mutex<Option<(Duration, Instant)>>,
    /// How far the clock is behind what it has shown before, and until when it is.
    lag: Mutex<Option<(Duration, Instant)>>,
}

impl ServerTime {
    /// Records the server's time since the Unix epoch. Returns by how much its clock was set back since the
    /// last time, once for each step; `None` where it was not set back by more than a second.
    pub(crate) fn record(&self, time: Duration, now: Instant) -> Option<Duration> {
        let (last, at) = self.last.lock().replace((time, now))?;
        let step = (last + now.duration_since(at)).checked_sub(time).filter(|step| *step > TOLERANCE)?;
        let all = self.lag(now) + step;
        *self.lag.lock() = Some((all, now + all));
        Some(step)
    }

    /// How far the clock is behind, by all its steps back, until it shows again what it has shown before.
    pub(crate) fn lag(&self, now: Instant) -> Duration {
        self.lag.lock().filter(|(_, until)| now < *until).map_or(Duration::ZERO, |(behind, _)| behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_said_once() {
        let (time, start) = (ServerTime::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let shown = Duration::from_secs;
        assert_eq!(time.record(shown(10_000), after(0)), None, "nothing to compare with");
        assert_eq!(time.record(shown(10_002), after(2)), None);
        assert_eq!(
            time.record(shown(10_003), after(4)),
            None,
            "a second is within what an answer may be late"
        );
        assert_eq!(time.record(shown(6_405), after(6)), Some(shown(3_600)));
        assert_eq!(time.record(shown(6_407), after(8)), None, "said once");
        assert_eq!(time.record(shown(10_009), after(10)), None, "forward again");
        assert_eq!(time.record(shown(10_009), after(3_610)), Some(shown(3_600)), "a clock that was halted");
    }
}
