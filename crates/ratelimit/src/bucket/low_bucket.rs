//! The summary of a nearly empty bucket that results and the limits resource show to callers.

use vmcp_json::{Json, Members};

use crate::plan::policy::Mode;
use crate::plan::{Plan, PlannedBucket};

/// The member of a result's `_meta` that reports how much is left of a limit.
const META_KEY: &str = "vmcp/limits";

/// A bucket that has little left after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowBucket {
    /// Its index in the plan.
    index: usize,
    /// Its level after the call, in units.
    level: i64,
}

impl LowBucket {
    /// Of the enforced buckets that hold less than `below_percent` percent of their capacity, the one with
    /// the smallest fraction left. Zero percent finds none. `levels` are the levels after the call, in units
    /// and in the order of the plan.
    pub(crate) fn find(plan: &Plan, levels: impl Iterator<Item = i64>, below_percent: u8) -> Option<Self> {
        if below_percent == 0 {
            return None;
        }
        let mut scarcest: Option<(Self, i64)> = None;
        for (index, (bucket, level)) in plan.buckets.iter().zip(levels).enumerate() {
            // Capacities stay below 2^53, so a hundred times a level is exact.
            let capacity = bucket.rate.capacity();
            if bucket.mode != Mode::Enforce || level * 100 >= capacity * i64::from(below_percent) {
                continue;
            }
            let scarcer = |(other, full): &(Self, i64)| {
                i128::from(level) * i128::from(*full) < i128::from(other.level) * i128::from(capacity)
            };
            if scarcest.as_ref().is_none_or(scarcer) {
                scarcest = Some((Self { index, level }, capacity));
            }
        }
        scarcest.map(|(low_bucket, _)| low_bucket)
    }

    /// Writes the summary of the bucket into the `_meta` of a result.
    pub(crate) fn write_meta(&self, plan: &Plan, result: &mut Members) {
        let Some(bucket) = plan.buckets.get(self.index) else { return };
        let mut meta = match result.get("_meta").map(Json::members) {
            None => Members::new(),
            Some(Ok(meta)) => meta,
            // The backend sent a `_meta` that is not an object; the gateway does not replace it.
            Some(Err(_)) => return,
        };
        meta.insert(META_KEY, bucket_summary(bucket, self.level).to_json());
        result.insert("_meta", meta.to_json());
    }
}

/// The summary of a bucket for callers. Tokens are whole and rounded down; milliseconds are rounded up.
pub(crate) fn bucket_summary(bucket: &PlannedBucket, level: i64) -> Members {
    let whole = |number: u64| Json::integer(i64::try_from(number).unwrap_or(i64::MAX));
    let mut summary = Members::new();
    summary.insert("rule", Json::string(&bucket.rule));
    summary.insert("scope", Json::string(bucket.scope.as_str()));
    summary.insert("remaining", whole(bucket.rate.tokens(level)));
    summary.insert("capacity", whole(bucket.rate.burst()));
    match &bucket.calendar_period {
        Some(resets) => summary.insert("resetsAt", Json::string(&resets.local_end())),
        None => {
            summary.insert("fullInMs", whole(bucket.rate.wait(level, bucket.rate.capacity()).div_ceil(1000)))
        }
    }
    summary
}
