//! The pure decision: given the level of every bucket of a call, whether the call may pass, and if not, how
//! long it must wait.

use smallvec::SmallVec;

use crate::bucket::rate::Rate;
use crate::plan::policy::Mode;

/// How long until a bucket can pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// It can pay now.
    None,
    /// It can pay after this many microseconds, if no other caller spends.
    Micros(u64),
    /// The wait is unknown: an in-flight call has to end first.
    UntilReleased,
    /// It can never pay: the cost is above its capacity.
    Never,
}

/// The state of one bucket before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSnapshot {
    /// The refill rate and the capacity.
    pub rate: Rate,
    /// The level now, in units.
    pub level: i64,
    /// The cost of the call, in units.
    pub cost: i64,
    /// Whether the bucket refuses a call that it cannot pay, or is in shadow mode.
    pub mode: Mode,
    /// Microseconds until a calendar quota is full again; `None` for a bucket that refills continuously.
    pub resets_in: Option<u64>,
}

impl BucketSnapshot {
    /// How long until the bucket can pay for the call.
    #[must_use]
    pub fn wait(&self) -> Wait {
        if self.level >= self.cost {
            Wait::None
        } else if self.cost > self.rate.capacity() {
            Wait::Never
        } else {
            Wait::Micros(self.resets_in.unwrap_or_else(|| self.rate.wait(self.level, self.cost)))
        }
    }
}

/// The charges of an admitted call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// For each bucket, by its index in the plan, whether it pays. A bucket in shadow mode that would refuse
    /// does not pay.
    pub pays: SmallVec<[bool; 8]>,
    /// The indices of the buckets in shadow mode that would have refused.
    pub would_refuse: SmallVec<[usize; 2]>,
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRefusal {
    /// The index of the refusing bucket with the longest wait.
    pub longest_wait_index: usize,
    /// The longest wait: the call can pass after it, if no other caller spends.
    pub wait: Wait,
    /// Every refusing bucket by its index, with its own wait.
    pub refusing_buckets: SmallVec<[(usize, Wait); 4]>,
    /// The level of every bucket, in units, in the order of the plan.
    pub levels: SmallVec<[i64; 4]>,
}

impl Charges {
    /// Charges a call to buckets given as (level, cost, mode), in units. Returns false if an enforced bucket
    /// cannot pay. The charges are incomplete then, and nothing may be spent by them.
    #[inline]
    pub(crate) fn try_charge(&mut self, buckets: impl Iterator<Item = (i64, i64, Mode)>) -> bool {
        for (index, (level, cost, mode)) in buckets.enumerate() {
            let pays = level >= cost;
            if !pays {
                match mode {
                    Mode::Enforce => return false,
                    Mode::Shadow => self.would_refuse.push(index),
                }
            }
            self.pays.push(pays);
        }
        true
    }
}

/// The refusal of a call for which [`Charges::try_charge`] returned false.
pub(crate) fn bucket_refusal(snapshots: impl Iterator<Item = BucketSnapshot>) -> Box<BucketRefusal> {
    let mut refused = BucketRefusal {
        longest_wait_index: 0,
        wait: Wait::None,
        refusing_buckets: SmallVec::new(),
        levels: SmallVec::new(),
    };
    for (index, snapshot) in snapshots.enumerate() {
        refused.levels.push(snapshot.level);
        if snapshot.mode == Mode::Shadow || snapshot.level >= snapshot.cost {
            continue;
        }
        let wait = snapshot.wait();
        // Of equal waits the first counts, so that the refusal names the widest scope: buckets are ordered
        // from wide to narrow.
        if wait > refused.wait {
            (refused.longest_wait_index, refused.wait) = (index, wait);
        }
        refused.refusing_buckets.push((index, wait));
    }
    Box::new(refused)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn snapshot(tokens: u64, level: u64, cost: u64, mode: Mode) -> BucketSnapshot {
        let rate = Rate::new(tokens, Duration::from_secs(10), tokens).unwrap();
        BucketSnapshot { rate, level: rate.units(level), cost: rate.units(cost), mode, resets_in: None }
    }

    fn decide(snapshots: &[BucketSnapshot]) -> Result<Charges, Box<BucketRefusal>> {
        let asked = snapshots.iter().map(|snapshot| (snapshot.level, snapshot.cost, snapshot.mode));
        let mut charges = Charges::default();
        if charges.try_charge(asked) { Ok(charges) } else { Err(bucket_refusal(snapshots.iter().copied())) }
    }

    #[test]
    fn the_longest_wait_of_all_refusing_buckets_counts() {
        let snapshots = [
            snapshot(10, 0, 1, Mode::Enforce),
            snapshot(10, 5, 1, Mode::Enforce),
            snapshot(1, 0, 1, Mode::Enforce),
            snapshot(2, 0, 1, Mode::Shadow),
        ];
        let refused = decide(&snapshots).unwrap_err();
        assert_eq!((refused.longest_wait_index, refused.wait), (2, Wait::Micros(10_000_000)));
        assert_eq!(
            refused.refusing_buckets.as_slice(),
            [(0, Wait::Micros(1_000_000)), (2, Wait::Micros(10_000_000))]
        );
    }

    #[test]
    fn a_price_above_the_bucket_is_never() {
        let refused = decide(&[snapshot(3, 3, 4, Mode::Enforce)]).unwrap_err();
        assert_eq!(refused.wait, Wait::Never);
    }

    #[test]
    fn shadow_counts_and_passes() {
        let charges = decide(&[snapshot(1, 0, 1, Mode::Shadow), snapshot(1, 1, 1, Mode::Enforce)]).unwrap();
        assert_eq!(
            (charges.pays.as_slice(), charges.would_refuse.as_slice()),
            ([false, true].as_slice(), [0].as_slice())
        );
    }

    #[test]
    fn equal_waits_blame_the_first() {
        let refused =
            decide(&[snapshot(1, 0, 1, Mode::Enforce), snapshot(1, 0, 1, Mode::Enforce)]).unwrap_err();
        assert_eq!(refused.longest_wait_index, 0);
    }
}
