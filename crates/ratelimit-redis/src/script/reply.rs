//! The replies of the scripts that decide.

use redis::Value;
use smallvec::SmallVec;
use vmcp_ratelimit::{AdmitRequest, RemoteVerdict, TakeGrant};
use vmcp_timing::Micros;

use super::cost_units;

/// Parses the reply of [`super::Scripts::take`]; `None` for a reply of another shape.
#[must_use]
pub fn read_take_grant(value: &Value) -> Option<TakeGrant> {
    let Value::Array(values) = value else { return None };
    let [Value::Int(tokens), Value::Int(level), Value::Int(at)] = values.as_slice() else { return None };
    Some(TakeGrant {
        tokens: u64::try_from(*tokens).ok()?,
        level: *level,
        at: Micros(u64::try_from(*at).ok()?),
    })
}

/// What one decision granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmitGrant {
    /// How many calls are granted.
    pub granted_count: u32,
    /// The server's time.
    pub now: Micros,
    /// The level of each bucket after all of them, in units.
    pub levels: SmallVec<[i64; 4]>,
    /// For how many of them each bucket paid: all, except for a bucket in shadow mode that ran short.
    pub paid_counts: SmallVec<[u32; 4]>,
}

impl AdmitGrant {
    /// Parses the reply of [`super::Scripts::admit`] about `bucket_count` buckets; `None` for a reply of
    /// another shape.
    #[must_use]
    pub fn read(value: &Value, bucket_count: usize) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        Self::from_values(values, bucket_count)
    }

    pub(super) fn from_values(values: &[Value], bucket_count: usize) -> Option<Self> {
        let number = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
        let [granted, now, buckets @ ..] = values else { return None };
        if buckets.len() != 2 * bucket_count {
            return None;
        }
        let mut grant = Self {
            granted_count: u32::try_from(number(granted)?).ok()?,
            now: Micros(u64::try_from(number(now)?).ok()?),
            levels: SmallVec::new(),
            paid_counts: SmallVec::new(),
        };
        for pair in buckets.chunks_exact(2) {
            let [level, paid] = pair else { return None };
            grant.levels.push(number(level)?);
            grant.paid_counts.push(u32::try_from(number(paid)?).ok()?);
        }
        Some(grant)
    }

    /// The verdict for one of the calls, by its index among those that were decided together.
    #[must_use]
    pub fn verdict(&self, request: &AdmitRequest, index: u32) -> RemoteVerdict {
        let mut verdict = RemoteVerdict {
            admitted: index < self.granted_count,
            levels: self.levels.clone(),
            pays: SmallVec::new(),
            at: self.now,
        };
        for ((bucket, level), paid) in request.buckets.iter().zip(&mut verdict.levels).zip(&self.paid_counts)
        {
            // What later calls of the same decision paid is still in the bucket for this call.
            let later = paid.saturating_sub(index.saturating_add(1));
            *level = level.saturating_add(cost_units(bucket).saturating_mul(i64::from(later)));
            verdict.pays.push(index < *paid);
        }
        verdict
    }

    /// For how many calls each bucket paid that were not made, if only the first `used` were made.
    #[must_use]
    pub fn unused_counts(&self, used: u32) -> SmallVec<[u32; 4]> {
        self.paid_counts.iter().map(|paid| paid.saturating_sub(used)).collect()
    }
}
