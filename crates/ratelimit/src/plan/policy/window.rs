//! One window of a limit: a token bucket or a calendar quota.

use std::sync::Arc;

use crate::bucket::calendar::Calendar;
use crate::bucket::rate::{Rate, RateError};

/// One window of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The refill rate and the capacity.
    pub rate: Rate,
    /// The periods of a calendar quota; `None` for a token bucket.
    pub calendar: Option<Arc<Calendar>>,
}

impl From<Rate> for Window {
    fn from(rate: Rate) -> Self {
        Self { rate, calendar: None }
    }
}

impl Window {
    /// A calendar quota of `calls` in each period.
    ///
    /// # Errors
    /// As [`Rate::new`].
    pub fn by_calendar(calls: u64, calendar: Arc<Calendar>) -> Result<Self, RateError> {
        Ok(Self {
            rate: Rate::per_calendar_period(calls, calendar.unit().typical_duration())?,
            calendar: Some(calendar),
        })
    }
}
