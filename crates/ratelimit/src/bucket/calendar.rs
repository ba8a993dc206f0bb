//! Calendar periods: an hour, a day, a week or a month in a time zone.
//!
//! A quota for such a period is a bucket that earns nothing within it and is full again in the next. The time
//! of day decides which period it is, so replicas agree on the period as far as their clocks agree. Each
//! period has a count of its own, which is exact.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use parking_lot::Mutex;

use vmcp_timing::Micros;

/// The unit of calendar periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeriodUnit {
    /// An hour.
    Hour,
    /// A day, which has 23 or 25 hours when daylight saving time begins or ends.
    Day,
    /// A week, from Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
}

impl PeriodUnit {
    /// The key in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The typical length of a period, for uses that need one number. A month counts as 30 days.
    #[must_use]
    pub fn typical_duration(self) -> Duration {
        let hours = match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 30 * 24,
        };
        Duration::from_secs(hours * 3600)
    }
}

/// A period in microseconds since 1970 UTC: from its start to the start of the next period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Period {
    /// The first moment of the period.
    pub start: Micros,
    /// The first moment after the period.
    pub end: Micros,
}

/// How calendar periods are counted: their unit, their time zone and the time at which they begin.
pub struct Calendar {
    unit: PeriodUnit,
    zone: TimeZone,
    zone_name: Arc<str>,
    resets_at: Time,
    /// The last period that was returned; consecutive calls mostly fall into the same one.
    cached: Mutex<Period>,
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calendar").field("name", &self.key_part()).finish_non_exhaustive()
    }
}

impl fmt::Display for Calendar {
    /// Formats as `day (Europe/Berlin, from 00:00)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, from {})", self.unit.as_str(), self.zone_name, self.resets_at())
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        let parts = |one: &Self| (one.unit, one.zone_name.clone(), one.resets_at);
        parts(self) == parts(other)
    }
}

impl Eq for Calendar {}

impl Calendar {
    /// Periods of `unit` in the IANA time zone `zone_name`, such as `Europe/Berlin`. They begin at the local
    /// time `resets_at` (`HH:MM`): of each day, of each Monday, or of the first day of each month. For hours
    /// only the minutes count.
    ///
    /// # Errors
    /// [`CalendarError`] if the time zone or the time is not valid. Its text is a sentence without a subject.
    pub fn new(unit: PeriodUnit, zone_name: &str, resets_at: &str) -> Result<Self, CalendarError> {
        let zone = TimeZone::get(zone_name).map_err(|_| CalendarError::Zone)?;
        let resets_at = parse_clock_time(resets_at).ok_or(CalendarError::Time)?;
        if unit == PeriodUnit::Hour && resets_at.hour() != 0 {
            return Err(CalendarError::Hour);
        }
        Ok(Self { unit, zone, zone_name: zone_name.into(), resets_at, cached: Mutex::default() })
    }

    /// The unit of the periods.
    #[must_use]
    pub fn unit(&self) -> PeriodUnit {
        self.unit
    }

    /// The name of the time zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    /// The local time at which the periods begin, as `HH:MM`.
    #[must_use]
    pub fn resets_at(&self) -> String {
        self.resets_at.strftime("%H:%M").to_string()
    }

    /// The calendar's part of bucket keys; it contains no colon.
    pub(crate) fn key_part(&self) -> String {
        format!("{}@{}~{}", self.unit.as_str(), self.zone_name, self.resets_at.strftime("%H%M"))
    }

    /// The period that contains `now`, in microseconds since 1970 UTC.
    #[must_use]
    pub fn period(&self, now: Micros) -> Period {
        let mut last = self.cached.lock();
        if !(last.start <= now && now < last.end) {
            *last = self.compute_period(now);
        }
        *last
    }

    /// `moment` as local time, such as `2026-11-30 00:00 (Europe/Berlin)`.
    #[must_use]
    pub fn format_local(&self, moment: Micros) -> String {
        let local = timestamp(moment).to_zoned(self.zone.clone());
        format!("{} ({})", local.strftime("%Y-%m-%d %H:%M"), self.zone_name)
    }

    fn compute_period(&self, now: Micros) -> Period {
        let local = timestamp(now).to_zoned(self.zone.clone());
        if self.unit == PeriodUnit::Hour {
            return hour_period(now, local.offset().seconds(), self.resets_at.minute());
        }
        let date = local.date();
        let mut begun = match self.unit {
            PeriodUnit::Hour | PeriodUnit::Day => date,
            PeriodUnit::Week => {
                shift_date(date, -i32::from(date.weekday().to_monday_zero_offset()), PeriodUnit::Day)
            }
            PeriodUnit::Month => date.first_of_month(),
        };
        // Some time zones have skipped or repeated a whole day, so one step may not be enough.
        while self.period_start(begun) > now && begun > Date::MIN {
            begun = shift_date(begun, -1, self.unit);
        }
        let mut next = shift_date(begun, 1, self.unit);
        while self.period_start(next) <= now && next < Date::MAX {
            (begun, next) = (next, shift_date(next, 1, self.unit));
        }
        Period { start: self.period_start(begun), end: self.period_start(next) }
    }

    /// When the period of a date begins. An ambiguous local time, which occurs twice, means the first
    /// occurrence. A local time in a gap is shifted forward by the length of the gap.
    fn period_start(&self, date: Date) -> Micros {
        let local = self.zone.to_ambiguous_zoned(date.to_datetime(self.resets_at)).compatible();
        let micros = local.map_or(i64::MAX, |zoned| zoned.timestamp().as_microsecond());
        Micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// Why a calendar is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// The IANA database has no such time zone.
    #[error("is not a time zone of the IANA database")]
    Zone,
    /// The time is not in the form `HH:MM`.
    #[error("is not a time of day")]
    Time,
    /// An hour begins at a minute, so the hour of its time must be zero.
    #[error("begins an hour, so it must be from 00:00 to 00:59")]
    Hour,
}

fn parse_clock_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn timestamp(moment: Micros) -> Timestamp {
    let micros = i64::try_from(moment.0).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

/// The date `count` periods later, saturated at the first or last representable date.
fn shift_date(date: Date, count: i32, unit: PeriodUnit) -> Date {
    let span = match unit {
        PeriodUnit::Hour | PeriodUnit::Day => count.days(),
        PeriodUnit::Week => count.weeks(),
        PeriodUnit::Month => count.months(),
    };
    date.saturating_add(span)
}

/// The hour period that contains `now`. It begins at `minute` of a local clock that is `ahead_s` seconds
/// ahead of UTC.
fn hour_period(now: Micros, ahead_s: i32, minute: i8) -> Period {
    const HOUR: i64 = 3_600_000_000;
    let shift = (i64::from(minute) * 60 - i64::from(ahead_s)) * 1_000_000;
    let now = i64::try_from(now.0).unwrap_or(i64::MAX);
    let start = now - (now - shift).rem_euclid(HOUR);
    let micros = |moment: i64| Micros(u64::try_from(moment).unwrap_or(0));
    Period { start: micros(start), end: micros(start.saturating_add(HOUR)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Micros {
        let moment: Timestamp = text.parse().unwrap();
        Micros(u64::try_from(moment.as_microsecond()).unwrap())
    }

    fn shown(unit: PeriodUnit, zone: &str, resets_at: &str, now: &str) -> String {
        let calendar = Calendar::new(unit, zone, resets_at).unwrap();
        let Period { start, end } = calendar.period(at(now));
        let hours = (end.0 - start.0) / 3_600_000_000;
        format!("{} {hours} h", timestamp(start))
    }

    #[test]
    fn periods_begin_by_the_clock_of_the_place() {
        for (unit, zone, resets_at, now, expected) in [
            (PeriodUnit::Day, "UTC", "00:00", "2026-11-29T18:00:00Z", "2026-11-29T00:00:00Z 24 h"),
            (PeriodUnit::Day, "UTC", "06:30", "2026-11-29T06:29:59Z", "2026-11-28T06:30:00Z 24 h"),
            (PeriodUnit::Day, "UTC", "06:30", "2026-11-29T06:30:00Z", "2026-11-29T06:30:00Z 24 h"),
            (PeriodUnit::Day, "Asia/Tokyo", "00:00", "2026-11-29T18:00:00Z", "2026-11-29T15:00:00Z 24 h"),
            // Clocks go forward on 29 March and back on 25 October.
            (PeriodUnit::Day, "Europe/Berlin", "00:00", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z 23 h"),
            (PeriodUnit::Day, "Europe/Berlin", "00:00", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z 25 h"),
            // On 29 March 02:30 is in the gap and means 03:30. On 25 October 02:30 occurs twice and means the
            // first occurrence.
            (PeriodUnit::Day, "Europe/Berlin", "02:30", "2026-03-29T01:30:00Z", "2026-03-29T01:30:00Z 23 h"),
            (PeriodUnit::Day, "Europe/Berlin", "02:30", "2026-10-25T01:00:00Z", "2026-10-25T00:30:00Z 25 h"),
            // Samoa skipped a whole day.
            (PeriodUnit::Day, "Pacific/Apia", "00:00", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z 24 h"),
            (PeriodUnit::Day, "Pacific/Apia", "00:00", "2011-12-30T11:00:00Z", "2011-12-30T10:00:00Z 24 h"),
            (PeriodUnit::Week, "UTC", "00:00", "2026-11-29T18:00:00Z", "2026-11-23T00:00:00Z 168 h"),
            (PeriodUnit::Week, "UTC", "09:00", "2026-11-30T08:59:00Z", "2026-11-23T09:00:00Z 168 h"),
            (
                PeriodUnit::Week,
                "Europe/Berlin",
                "00:00",
                "2026-10-25T12:00:00Z",
                "2026-10-18T22:00:00Z 169 h",
            ),
            (PeriodUnit::Month, "UTC", "00:00", "2028-02-29T18:00:00Z", "2028-02-01T00:00:00Z 696 h"),
            (
                PeriodUnit::Month,
                "America/New_York",
                "00:00",
                "2026-12-01T04:59:00Z",
                "2026-11-01T04:00:00Z 721 h",
            ),
            (PeriodUnit::Hour, "UTC", "00:00", "2026-11-29T18:59:59Z", "2026-11-29T18:00:00Z 1 h"),
            (PeriodUnit::Hour, "UTC", "00:15", "2026-11-29T18:14:59Z", "2026-11-29T17:15:00Z 1 h"),
            (PeriodUnit::Hour, "Asia/Kolkata", "00:00", "2026-11-29T18:00:00Z", "2026-11-29T17:30:00Z 1 h"),
        ] {
            assert_eq!(shown(unit, zone, resets_at, now), expected, "{unit:?} {zone} {resets_at} {now}");
        }
    }

    /// Every moment lies in its period, and periods follow each other without a gap.
    #[test]
    fn periods_cover_all_time() {
        for zone in ["UTC", "Europe/Berlin", "Pacific/Apia", "Australia/Lord_Howe", "America/St_Johns"] {
            for unit in [PeriodUnit::Hour, PeriodUnit::Day, PeriodUnit::Week, PeriodUnit::Month] {
                let calendar = Calendar::new(unit, zone, "00:30").unwrap();
                let mut now = at("2011-11-01T00:00:00Z");
                while now < at("2012-05-01T00:00:00Z") {
                    let period = calendar.period(now);
                    assert!(period.start <= now && now < period.end, "{zone} {unit:?} {now:?} {period:?}");
                    let last = Micros(period.end.0 - 1);
                    // An hour is shorter where the clocks change by a fraction of an hour.
                    if unit != PeriodUnit::Hour {
                        assert_eq!(calendar.compute_period(last), period, "{zone} {unit:?}");
                        assert_eq!(calendar.compute_period(period.end).start, period.end, "{zone} {unit:?}");
                    }
                    now = now.plus(1_700_000_000);
                }
            }
        }
    }

    #[test]
    fn what_is_no_calendar_is_refused() {
        let new = |unit, zone: &str, time: &str| Calendar::new(unit, zone, time).map(|_| ()).unwrap_err();
        assert_eq!(new(PeriodUnit::Day, "Europe/Atlantis", "00:00"), CalendarError::Zone);
        assert_eq!(new(PeriodUnit::Hour, "UTC", "01:00"), CalendarError::Hour);
        for time in ["", "7:00", "24:00", "00:60", "0000", "00:00:00", "+1:00"] {
            assert_eq!(new(PeriodUnit::Day, "UTC", time), CalendarError::Time, "{time}");
        }
    }

    #[test]
    fn a_reset_is_told_in_local_time() {
        let calendar = Calendar::new(PeriodUnit::Day, "Europe/Berlin", "00:00").unwrap();
        let end = calendar.period(at("2026-11-29T18:00:00Z")).end;
        assert_eq!(calendar.format_local(end), "2026-11-30 00:00 (Europe/Berlin)");
        assert_eq!(calendar.key_part(), "day@Europe/Berlin~0000");
    }
}
