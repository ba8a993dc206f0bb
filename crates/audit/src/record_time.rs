//! The time in records: microseconds since 1970, and the same time as text (RFC 3339, UTC).

use std::num::NonZeroU8;
use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};
use time::format_description::well_known::{Iso8601, Rfc3339};
use vmcp_timing::{Clock, Micros};

/// The limiter's clock and the time of day at its start. It never steps, so the time between two records of a
/// process is the time that the limiter saw between the two calls.
pub(crate) struct RecordClock {
    clock: Arc<dyn Clock>,
    started_unix_us: u64,
}

impl RecordClock {
    /// Reads the time of day once.
    pub(crate) fn start(clock: Arc<dyn Clock>) -> Self {
        let started_unix_us = clock.time_of_day().since(clock.now());
        Self { clock, started_unix_us }
    }

    /// The current time of the limiter's clock.
    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Converts a time of that clock to microseconds since 1970.
    pub(crate) fn unix_us(&self, moment: Micros) -> u64 {
        self.started_unix_us.saturating_add(moment.0)
    }
}

/// Six decimal digits of the second, so that the texts sort in the order of time.
const FORMAT: EncodedConfig =
    Config::DEFAULT.set_time_precision(TimePrecision::Second { decimal_digits: NonZeroU8::new(6) }).encode();

/// Formats a time. Returns an empty string for years above 9999.
#[must_use]
pub fn format(unix_us: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_us) * 1000);
    moment.ok().and_then(|moment| moment.format(&Iso8601::<FORMAT>).ok()).unwrap_or_default()
}

/// Parses RFC 3339 text. Returns `None` if the text is invalid or the time is before 1970.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::{format, parse};

    #[test]
    fn moments_come_back_from_their_text() {
        assert_eq!(format(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(format(951_827_696_123_456), "2000-02-29T12:34:56.123456Z");
        let mut moment = 1;
        while moment < 200 * 365 * 86_400 * 1_000_000 {
            assert_eq!(parse(&format(moment)), Some(moment));
            moment = moment * 3 / 2 + 86_399_000_001;
        }
    }

    #[test]
    fn other_spellings_are_read_and_nonsense_is_not() {
        let moment = Some(951_827_696_120_000);
        assert_eq!(parse("2000-02-29T13:34:56.12+01:00"), moment);
        assert_eq!(parse("2000-02-29T12:34:56.120000999Z"), moment);
        assert_eq!(parse("2000-02-29 12:34:56Z"), Some(951_827_696_000_000));
        for text in ["", "2000", "1969-12-31T23:59:59Z", "2000-13-01T00:00:00Z", "2000-02-29T12:34:56", "äöü"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
