//! Time in records: microseconds since 1970, and the same as text (RFC 3339, UTC).

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use vmcp_ratelimit::{Clock, Micros};

const DAY: u64 = 86_400;

/// The limiter's clock, with the time of day at which it began. It never steps, so the time between two records of a
/// process is the time that the limiter saw between two calls.
pub(super) struct Timepiece {
    clock: Arc<dyn Clock>,
    zero: u64,
}

impl Timepiece {
    /// Reads the time of day once.
    pub(super) fn start(clock: Arc<dyn Clock>) -> Self {
        let wall = crate::wall_time().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        let zero = wall.saturating_sub(clock.now().0);
        Self { clock, zero }
    }

    /// Now, by the limiter's clock.
    pub(super) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// A moment of that clock in microseconds since 1970.
    pub(super) fn unix_us(&self, moment: Micros) -> u64 {
        self.zero.saturating_add(moment.0)
    }
}

/// A moment as text.
pub(crate) fn format(unix_us: u64) -> String {
    let (seconds, micros) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let (days, rest) = (seconds / DAY, seconds % DAY);
    // Years begin in March here, so that the leap day is the last: the usual algorithm for civil dates.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The moment that a text says; `None` when it says none after 1970.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mark =
        |place: usize, marks: &[u8]| text.as_bytes().get(place).is_some_and(|byte| marks.contains(byte));
    if !(mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let fraction = rest.get(1..=digits).unwrap_or_default();
    let micros: u64 = format!("{:0<6}", fraction.get(..6).unwrap_or(fraction)).parse().ok()?;
    let zone = rest.get(if digits == 0 { 0 } else { digits + 1 }..)?;
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year / 400, year % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1;
    let local = (days.checked_sub(719_468)? * DAY + hour * 3600 + minute * 60 + second) * 1_000_000 + micros;
    match zone {
        "Z" | "z" => Some(local),
        _numeric => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let offset = (hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?) * 60_000_000;
            match zone.get(..1)? {
                "+" => local.checked_sub(offset),
                "-" => local.checked_add(offset),
                _neither => None,
            }
        }
    }
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
