//! Merges the sizes of a user's bucket when another override applies to the caller than at the last call:
//! what is missing in one size stays missing in the other. A call that pays moves it into the size that
//! applies; a call that is refused moves nothing.

use vmcp_timing::Micros;

use crate::bucket::memory_store::user_entries::UserEntries;
use crate::bucket::rate::{BucketState, merged};
use crate::bucket::user_table::UserRecord;
use crate::plan::{LevelStorage, Plan, PlannedBucket, Planner};

/// The state of a user's bucket with everything that is missing in its other sizes. `None` if no size has a
/// state, which means that the bucket is full.
pub(super) fn merged_state(
    user: &UserRecord,
    bucket: &PlannedBucket,
    planner: &Planner,
    now: Micros,
) -> Option<BucketState> {
    let mut state = user.state(bucket.id);
    for other in &bucket.other_sizes {
        if let Some(left) = user.state(*other)
            && let Some(rate) = planner.rate(*other)
        {
            let own = state.unwrap_or_else(|| BucketState::full(&bucket.rate, now));
            state = Some(merged((own, &bucket.rate), (left, &rate), now));
        }
    }
    state
}

/// Moves what a user has spent in other sizes of a bucket into the size that applies now.
pub(super) fn merge_size(user: &mut UserRecord, bucket: &PlannedBucket, planner: &Planner, now: Micros) {
    if bucket.other_sizes.is_empty() {
        return;
    }
    if let Some(state) = merged_state(user, bucket, planner, bucket.bucket_time(now)) {
        user.set_state(bucket.id, state);
        for other in &bucket.other_sizes {
            user.take_state(*other);
        }
    }
}

/// Merges the sizes of all buckets of a plan.
pub(super) fn merge_sizes(plan: &Plan, entries: &mut UserEntries<'_>, planner: &Planner, now: Micros) {
    for bucket in &plan.buckets {
        let is_shadow = matches!(bucket.storage, LevelStorage::ShadowUser);
        if let Some(user) = entries.entry_mut(is_shadow).record_mut() {
            merge_size(user, bucket, planner, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bucket::rate::Rate;

    fn rate(tokens: u64, seconds: u64) -> Rate {
        Rate::new(tokens, Duration::from_secs(seconds), tokens).unwrap()
    }

    fn held(rate: &Rate, tokens: i64, at: u64) -> BucketState {
        BucketState::full(rate, Micros(at)).with_units(tokens * rate.unit().cast_signed())
    }

    #[test]
    fn what_is_missing_stays_missing() {
        let (small, large) = (rate(7, 60), rate(1000, 60));
        let full = |rate: &Rate| BucketState::full(rate, Micros(0));
        let tokens = |state: BucketState, rate: &Rate| rate.tokens(state.level.units);
        let grown = merged((full(&large), &large), (held(&small, 2, 0), &small), Micros(0));
        assert_eq!(tokens(grown, &large), 995);
        let shrunk = merged((full(&small), &small), (held(&large, 990, 0), &large), Micros(0));
        assert_eq!(shrunk.level.units, -3 * small.unit().cast_signed());
        // Tokens were spent from both sizes.
        let both = merged((held(&large, 900, 0), &large), (held(&small, 2, 0), &small), Micros(0));
        assert_eq!(tokens(both, &large), 895);
        // The refill since then is not missing.
        let later = merged((full(&large), &large), (held(&small, 0, 0), &small), Micros(60_000_000));
        assert_eq!(later.level.units, large.capacity());
        // The whole amount is missing, beyond the capacity; otherwise a smaller size in between would forgive
        // the rest.
        let deep = merged((full(&small), &small), (held(&large, 0, 0), &large), Micros(0));
        assert_eq!(deep.level.units, -993 * small.unit().cast_signed());
    }
}
