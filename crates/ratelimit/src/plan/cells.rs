//! The buckets of values of claims: one for each definition and value, made when a call first needs it and forgotten
//! when it is full again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::BucketId;
use crate::clock::Micros;
use crate::rate::{BucketState, Rate};
use crate::table::UserKey;

type Cell = Arc<Mutex<Option<BucketState>>>;

/// Every bucket of a value of a claim in this process.
#[derive(Debug, Default)]
pub(super) struct Cells {
    known: HashMap<(BucketId, UserKey), (Rate, Cell)>,
    /// How many there may be before the full ones are looked for again.
    sweep_at: usize,
    swept: Micros,
}

/// Fewer than this are not worth looking through.
const SWEEP_MIN: usize = 1024;
/// How long nothing is looked through again where all places are taken, in microseconds.
const SWEEP_PAUSE: u64 = 1_000_000;

impl Cells {
    /// The bucket of one value, and the key under which it is kept. Beyond `most` the values that come share a bucket of
    /// each definition: none is forgotten that is in debt. The values of one caller do not share one, by their `place`: no
    /// call locks a bucket twice.
    pub(super) fn cell(
        &mut self,
        key: (BucketId, UserKey),
        (place, most): (usize, usize),
        rate: &Rate,
        (now, time): (Micros, &dyn Fn(BucketId) -> Micros),
    ) -> (UserKey, Cell) {
        if let Some((_, cell)) = self.known.get(&key) {
            return (key.1, cell.clone());
        }
        let many = self.known.len() >= self.sweep_at.max(SWEEP_MIN);
        if many || (self.known.len() >= most && now.since(self.swept) >= SWEEP_PAUSE) {
            self.sweep(time);
            self.swept = now;
            self.sweep_at = self.known.len() * 2;
        }
        let key = if self.known.len() >= most { (key.0, UserKey::overflow(place)) } else { key };
        (key.1, self.known.entry(key).or_insert_with(|| (*rate, Cell::default())).1.clone())
    }

    /// Looks at every bucket that a caller has spent from.
    pub(super) fn each(&self, mut look: impl FnMut(BucketId, UserKey, BucketState)) {
        for ((id, key), (_, cell)) in &self.known {
            if let Some(state) = *cell.lock() {
                look(*id, *key, state);
            }
        }
    }

    /// Takes over a bucket.
    pub(super) fn restore(&mut self, key: (BucketId, UserKey), rate: Rate, state: BucketState) {
        self.known.insert(key, (rate, Arc::new(Mutex::new(Some(state)))));
    }

    /// What is left in the bucket of a value in the size that it had in the last process.
    pub(super) fn take(&mut self, key: (BucketId, UserKey)) -> Option<BucketState> {
        let (_, cell) = self.known.remove(&key)?;
        *cell.lock()
    }

    /// Forgets what is full and in nobody's plan.
    fn sweep(&mut self, time: &dyn Fn(BucketId) -> Micros) {
        self.known.retain(|(id, _), (rate, cell)| {
            let full = |state: BucketState| rate.level_at(state.level, time(*id)) >= rate.capacity();
            Arc::strong_count(cell) > 1 || !cell.lock().is_none_or(full)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate() -> Rate {
        Rate::new(10, Duration::from_secs(10), 10).unwrap()
    }

    fn cell(cells: &mut Cells, key: (BucketId, UserKey), now: Micros, most: usize) -> Cell {
        cells.cell(key, (0, most), &rate(), (now, &|_| now)).1
    }

    #[test]
    fn a_value_in_debt_is_never_forgotten_and_full_ones_make_room() {
        let (mut cells, rate) = (Cells::default(), rate());
        let key = |number: u128| (BucketId(0), UserKey::new(number));
        let spent = BucketState::full(&rate, Micros(0)).with_units(0);
        *cell(&mut cells, key(1), Micros(0), 2000).lock() = Some(spent);
        for number in 2..5000 {
            drop(cell(&mut cells, key(number), Micros(1), 2000));
        }
        assert_eq!(*cell(&mut cells, key(1), Micros(1), 2000).lock(), Some(spent));
        assert!(cells.known.len() <= 2000);
        // Once it is full again it need not be known.
        for number in 5000..10_000 {
            drop(cell(&mut cells, key(number), Micros(20_000_000), 2000));
        }
        assert_eq!(*cell(&mut cells, key(1), Micros(20_000_000), 2000).lock(), None);
    }

    #[test]
    fn beyond_the_bound_values_share_a_bucket() {
        let mut cells = Cells::default();
        let held: Vec<Cell> = (2..=4)
            .map(|number| cell(&mut cells, (BucketId(0), UserKey::new(number)), Micros(0), 1))
            .collect();
        assert!(!Arc::ptr_eq(&held[0], &held[1]) && Arc::ptr_eq(&held[1], &held[2]));
    }
}
