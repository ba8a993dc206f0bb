//! The pure decision: given what every bucket of a call holds, may the call pass, and if not, for how long not.

use smallvec::SmallVec;

use crate::bucket::rate::Rate;
use crate::plan::policy::Mode;

/// How long a bucket cannot pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// It can pay now.
    None,
    /// It can pay after so many microseconds, if no other caller spends.
    Micros(u64),
    /// Nobody can say: a call in flight has to end first.
    UntilReleased,
    /// It can never pay: the price is more than it holds when full.
    Never,
}

/// One bucket as it stands before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSnapshot {
    /// How it fills.
    pub rate: Rate,
    /// What it holds now, in units.
    pub level: i64,
    /// What the call costs, in units.
    pub cost: i64,
    /// What a refusal does.
    pub mode: Mode,
    /// In how many microseconds it is full again, for one that earns nothing until then.
    pub resets_in: Option<u64>,
}

impl BucketSnapshot {
    /// How long the bucket cannot pay.
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

/// What a call that passes is charged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// For each bucket, by its place: whether it pays. A rule in shadow mode that would refuse does not.
    pub pays: SmallVec<[bool; 8]>,
    /// The places of the buckets in shadow mode that would have refused.
    pub would_refuse: SmallVec<[usize; 2]>,
}

/// Why a call does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRefusal {
    /// The place of the bucket that takes longest.
    pub longest_wait_index: usize,
    /// How long that one takes: the call can pass after it, if no other caller spends.
    pub wait: Wait,
    /// Every bucket that refuses, by its place, with its own wait.
    pub refusing_buckets: SmallVec<[(usize, Wait); 4]>,
    /// What every bucket holds, in units.
    pub levels: SmallVec<[i64; 4]>,
}

impl Charges {
    /// Charges a call to buckets of these levels, costs and modes. False if an enforced one cannot pay: then the bill is of no
    /// use, and nothing may be spent.
    #[inline]
    pub(crate) fn try_charge(&mut self, buckets: impl Iterator<Item = (i64, i64, Mode)>) -> bool {
        for (place, (level, cost, mode)) in buckets.enumerate() {
            let pays = level >= cost;
            if !pays {
                match mode {
                    Mode::Enforce => return false,
                    Mode::Shadow => self.would_refuse.push(place),
                }
            }
            self.pays.push(pays);
        }
        true
    }
}

/// Why a call does not pass of which [`Charges::try_charge`] says that it cannot pay.
pub(crate) fn bucket_refusal(readings: impl Iterator<Item = BucketSnapshot>) -> Box<BucketRefusal> {
    let mut refused = BucketRefusal {
        longest_wait_index: 0,
        wait: Wait::None,
        refusing_buckets: SmallVec::new(),
        levels: SmallVec::new(),
    };
    for (place, reading) in readings.enumerate() {
        refused.levels.push(reading.level);
        if reading.mode == Mode::Shadow || reading.level >= reading.cost {
            continue;
        }
        let wait = reading.wait();
        // The first of equals, so that blame falls on the widest scope, as the order of buckets has it.
        if wait > refused.wait {
            (refused.longest_wait_index, refused.wait) = (place, wait);
        }
        refused.refusing_buckets.push((place, wait));
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

    fn decide(readings: &[BucketSnapshot]) -> Result<Charges, Box<BucketRefusal>> {
        let asked = readings.iter().map(|reading| (reading.level, reading.cost, reading.mode));
        let mut bill = Charges::default();
        if bill.try_charge(asked) { Ok(bill) } else { Err(bucket_refusal(readings.iter().copied())) }
    }

    #[test]
    fn the_longest_wait_of_all_refusing_buckets_counts() {
        let readings = [
            snapshot(10, 0, 1, Mode::Enforce),
            snapshot(10, 5, 1, Mode::Enforce),
            snapshot(1, 0, 1, Mode::Enforce),
            snapshot(2, 0, 1, Mode::Shadow),
        ];
        let refused = decide(&readings).unwrap_err();
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
        let bill = decide(&[snapshot(1, 0, 1, Mode::Shadow), snapshot(1, 1, 1, Mode::Enforce)]).unwrap();
        assert_eq!(
            (bill.pays.as_slice(), bill.would_refuse.as_slice()),
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
