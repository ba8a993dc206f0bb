//! The legacy keys under which older versions and the reference implementation stored the level of a bucket.
//! A bucket with a new present key starts with the level found there, so neither an upgrade nor a migration
//! gives out fresh budgets.

use super::SharedUser;
use crate::plan::PlannedBucket;

/// The largest window index that is looked up.
const WINDOW_INDEX_MAX: u8 = 7;

/// Legacy keys of one bucket, without the prefix of all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LegacyKeys {
    /// Keys of layout 2, which named a bucket by the index of its window; the likeliest first. The level at
    /// one of them belongs to this bucket if it was earned at the same rate.
    pub by_window_index: Vec<String>,
    /// The limit has one window: the level at the first of these keys belongs to this bucket, whatever its
    /// rate was.
    pub is_only_window: bool,
    /// The key of the reference implementation, which holds a hash; `None` if it has no such limit.
    pub reference: Option<String>,
}

impl LegacyKeys {
    /// The legacy keys of a bucket, for a caller. `has_home` says that the bucket has a partition of its own
    /// in a cluster, where the reference implementation has no keys.
    pub(crate) fn for_bucket(bucket: &PlannedBucket, user: Option<&SharedUser>, has_home: bool) -> Self {
        let (own, count) = (bucket.legacy_window.index, bucket.legacy_window.count);
        let (stem, rest) = bucket
            .key
            .split_at_checked(bucket.legacy_window.period_offset.into())
            .unwrap_or((&bucket.key, ""));
        let claim = rest.split_once(':').map_or(String::new(), |(_, claim)| format!(":{claim}"));
        let end = user
            .filter(|_| bucket.storage.is_per_user())
            .map_or(String::new(), |user| format!(":{}", user.digest));
        let others = (0..=count.min(WINDOW_INDEX_MAX)).filter(|index| *index != own);
        let by_window_index =
            std::iter::once(own).chain(others).map(|index| format!("{stem}{index}{claim}{end}")).collect();
        let reference =
            (count == 1 && claim.is_empty() && !has_home).then(|| reference_key(bucket, user)).flatten();
        Self { by_window_index, is_only_window: count == 1, reference }
    }
}

/// The key of the bucket in the reference implementation. It limits all calls, or one tool by the name that
/// clients see.
fn reference_key(bucket: &PlannedBucket, user: Option<&SharedUser>) -> Option<String> {
    let name = match bucket.rule.strip_prefix("tools[") {
        Some(rule) => Some(rule.strip_suffix("].shared").or_else(|| rule.strip_suffix("].perUser"))?),
        None => (["shared", "perUser"].contains(&&*bucket.rule)).then_some(None)?,
    };
    if name.is_some_and(|name| name.contains(['*', '?'])) {
        return None;
    }
    match (bucket.storage.is_per_user(), name) {
        (false, None) => Some("shared".to_owned()),
        (false, Some(name)) => Some(format!("shared:tool:{name}")),
        (true, None) => Some(format!("user:{}", user?.subject.as_ref()?)),
        (true, Some(name)) => Some(format!("user-tool:{name}:{}", user?.subject.as_ref()?)),
    }
}

#[cfg(test)]
mod tests;
