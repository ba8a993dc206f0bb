//! The busiest callers of limited tools, in a bounded sketch for operators (the space-saving algorithm). When
//! all entries are taken, a new user replaces the user with the lowest count, and that count becomes the new
//! user's possible error. So no user who is among the busiest is missing, and no count is too low.

use std::sync::Arc;

use parking_lot::Mutex;
use vmcp_domain::Identity;

use crate::bucket::user_key::UserKey;

/// The number of users that are tracked.
const TRACKED_COUNT_MAX: usize = 64;

/// One of the busiest users.
#[derive(Clone, Debug)]
pub struct TopCaller {
    /// The user.
    pub identity: Arc<Identity>,
    /// The number of calls, an upper bound.
    pub call_count: u64,
    /// How much of `call_count` may belong to users who had the entry before.
    pub count_error: u64,
    /// The calls that were refused since the user has had the entry.
    pub refused_count: u64,
}

/// The busiest users.
#[derive(Debug, Default)]
pub(crate) struct TopCallers(Mutex<Vec<(UserKey, TopCaller)>>);

impl TopCallers {
    /// Counts one call of a user.
    pub(crate) fn count(&self, key: UserKey, identity: &Arc<Identity>, refused: bool) {
        let mut entries = self.0.lock();
        let index = match entries.iter().position(|(known, _)| *known == key) {
            Some(index) => index,
            None if entries.len() < TRACKED_COUNT_MAX => {
                entries.push((
                    key,
                    TopCaller { identity: identity.clone(), call_count: 0, count_error: 0, refused_count: 0 },
                ));
                entries.len() - 1
            }
            None => {
                let least = entries.iter().enumerate().min_by_key(|(_, (_, caller))| caller.call_count);
                let Some((index, asked)) = least.map(|(index, (_, caller))| (index, caller.call_count))
                else {
                    return;
                };
                entries[index] = (
                    key,
                    TopCaller {
                        identity: identity.clone(),
                        call_count: asked,
                        count_error: asked,
                        refused_count: 0,
                    },
                );
                index
            }
        };
        let caller = &mut entries[index].1;
        caller.call_count += 1;
        caller.refused_count += u64::from(refused);
    }

    /// The tracked users, the busiest first.
    pub(crate) fn list(&self) -> Vec<TopCaller> {
        let mut callers: Vec<TopCaller> = self.0.lock().iter().map(|(_, caller)| caller.clone()).collect();
        callers.sort_by_key(|caller| std::cmp::Reverse(caller.call_count));
        callers
    }
}

#[cfg(test)]
mod tests {
    use vmcp_json::Members;

    use super::*;

    #[test]
    fn the_busiest_are_never_missing() {
        let top = TopCallers::default();
        let identity = |subject: u64| {
            Arc::new(Identity { issuer: "i".into(), subject: subject.to_string(), claims: Members::new() })
        };
        for turn in 0..10_000_u64 {
            top.count(UserKey::new(7), &identity(7), turn % 2 == 0);
            let passing = 1000 + turn;
            top.count(UserKey::new(passing.into()), &identity(passing), false);
        }
        let list = top.list();
        assert_eq!(list.len(), TRACKED_COUNT_MAX);
        assert_eq!(
            (list[0].identity.subject.as_str(), list[0].call_count, list[0].refused_count),
            ("7", 10_000, 5_000)
        );
        assert!(
            list[1].call_count - list[1].count_error <= 2,
            "a passing user is told by its possible error"
        );
    }
}
