//! The user table of one shard: open addressing over cache lines, with two buckets of a user inline. Users
//! with only full buckets again are swept out, which loses no information; a user in debt never is.

mod packed;

use vmcp_timing::Micros;

use crate::bucket::rate::{BucketState, Level, Rate};
use crate::bucket::user_key::{UserKey, spread};
use crate::plan::BucketId;
use packed::Packed;

const EMPTY: u128 = 0;
const NO_BUCKET: BucketId = BucketId(u32::MAX);

/// One user: exactly one cache line of 64 bytes on common machines.
#[derive(Clone, Debug)]
pub(crate) struct UserRecord {
    key: u128,
    states: [Packed; 2],
    ids: [BucketId; 2],
    spilled: Option<Box<SpilledState>>,
}

/// What does not fit into the cache line: further buckets, and the counts of in-flight calls.
#[derive(Clone, Debug, Default)]
struct SpilledState {
    states: Vec<(BucketId, Packed)>,
    in_flight: Vec<(BucketId, u32)>,
}

impl UserRecord {
    const VACANT: Self = Self { key: EMPTY, states: [Packed::NONE; 2], ids: [NO_BUCKET; 2], spilled: None };

    /// The state of a bucket; `None` means that no call has spent from it, or that it has been full since.
    pub(crate) fn state(&self, id: BucketId) -> Option<BucketState> {
        self.packed(id).map(Packed::state)
    }

    /// The level of a bucket, without the rest of its state.
    #[inline]
    pub(crate) fn level(&self, id: BucketId) -> Option<Level> {
        self.packed(id).map(Packed::level)
    }

    fn packed(&self, id: BucketId) -> Option<Packed> {
        let inline = self.ids.iter().zip(&self.states).find(|(known, _)| **known == id);
        if let Some((_, state)) = inline {
            return Some(*state);
        }
        let more = self.spilled.as_ref()?;
        more.states.iter().find(|(known, _)| *known == id).map(|(_, state)| *state)
    }

    /// Records a payment at `now` that changes the level of a bucket from `before` to `after` units.
    #[inline]
    pub(crate) fn spend(&mut self, id: BucketId, rate: &Rate, (before, after): (i64, i64), now: Micros) {
        if let Some(index) = self.ids.iter().position(|known| *known == id) {
            self.states[index].spend(rate, (before, after), now);
            return;
        }
        let mut state = self.state(id).unwrap_or_else(|| BucketState::full(rate, now));
        state.spend(rate, (before, after), now);
        self.set_state(id, state);
    }

    /// Sets the state of a bucket, inline if there is room.
    pub(crate) fn set_state(&mut self, id: BucketId, state: BucketState) {
        let state = Packed::new(state);
        for wanted in [id, NO_BUCKET] {
            if let Some(index) = self.ids.iter().position(|known| *known == wanted)
                && (wanted == id
                    || !self.spilled.as_ref().is_some_and(|more| more.states.iter().any(|one| one.0 == id)))
            {
                self.ids[index] = id;
                self.states[index] = state;
                return;
            }
        }
        let more = self.spilled.get_or_insert_default();
        match more.states.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = state,
            None => more.states.push((id, state)),
        }
    }

    /// The states of all buckets of the user.
    pub(crate) fn states(&self) -> impl Iterator<Item = (BucketId, BucketState)> {
        let inline = self.ids.iter().zip(&self.states).filter(|(id, _)| **id != NO_BUCKET);
        let inline = inline.map(|(id, state)| (*id, state.state()));
        let more = self.spilled.iter().flat_map(|more| &more.states);
        inline.chain(more.map(|(id, state)| (*id, state.state())))
    }

    /// Removes the state of a bucket and returns it.
    pub(crate) fn take_state(&mut self, id: BucketId) -> Option<BucketState> {
        let state = self.state(id)?;
        if let Some(index) = self.ids.iter().position(|known| *known == id) {
            self.ids[index] = NO_BUCKET;
        } else if let Some(more) = &mut self.spilled {
            more.states.retain(|(known, _)| *known != id);
            self.drop_spilled_if_empty();
        }
        Some(state)
    }

    /// How many calls are in flight under a slot limit.
    pub(crate) fn in_flight(&self, id: BucketId) -> u32 {
        let more = self.spilled.as_ref().map(|more| more.in_flight.as_slice()).unwrap_or_default();
        more.iter().find(|(known, _)| *known == id).map_or(0, |(_, count)| *count)
    }

    /// Sets how many calls are in flight under a slot limit.
    pub(crate) fn set_in_flight(&mut self, id: BucketId, count: u32) {
        let more = self.spilled.get_or_insert_default();
        match more.in_flight.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = count,
            None => more.in_flight.push((id, count)),
        }
        more.in_flight.retain(|(_, count)| *count > 0);
        self.drop_spilled_if_empty();
    }

    fn drop_spilled_if_empty(&mut self) {
        if self.spilled.as_ref().is_some_and(|more| more.in_flight.is_empty() && more.states.is_empty()) {
            self.spilled = None;
        }
    }

    /// True if forgetting the user changes nothing: every bucket is full and no call is in flight.
    fn is_idle(&self, rate: &dyn Fn(BucketId) -> Option<(Rate, Micros)>) -> bool {
        let full = |id: BucketId, state: Packed| {
            rate(id).is_none_or(|(rate, now)| rate.level_at(state.level(), now) >= rate.capacity())
        };
        let inline =
            self.ids.iter().zip(&self.states).all(|(id, state)| *id == NO_BUCKET || full(*id, *state));
        inline
            && self.spilled.as_ref().is_none_or(|more| {
                more.in_flight.is_empty() && more.states.iter().all(|(id, state)| full(*id, *state))
            })
    }
}

/// The users of one shard.
#[derive(Debug, Default)]
pub(crate) struct UserTable {
    records: Vec<UserRecord>,
    count: usize,
    sweep_index: usize,
}

impl UserTable {
    /// The number of users.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Memory of the records, in bytes, without what does not fit into the cache lines.
    pub(crate) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<UserRecord>()
    }

    /// The index of a user.
    pub(crate) fn find(&self, key: UserKey) -> Option<usize> {
        if self.records.is_empty() {
            return None;
        }
        let mut index = self.home_index(key.number());
        loop {
            match self.records[index].key {
                EMPTY => return None,
                known if known == key.number() => return Some(index),
                _ => index = self.next_index(index),
            }
        }
    }

    /// The user at an index that [`UserTable::find`] or [`UserTable::insert`] returned.
    pub(crate) fn at(&self, index: usize) -> &UserRecord {
        &self.records[index]
    }

    /// Mutable form of `at`.
    pub(crate) fn at_mut(&mut self, index: usize) -> &mut UserRecord {
        &mut self.records[index]
    }

    /// All users with their keys.
    pub(crate) fn users(&self) -> impl Iterator<Item = (UserKey, &UserRecord)> {
        self.records.iter().filter(|user| user.key != EMPTY).map(|user| (UserKey::new(user.key), user))
    }

    /// Adds a user that the table does not have, and returns its index.
    pub(crate) fn insert(&mut self, key: UserKey) -> usize {
        if (self.count + 1) * 5 > self.records.len() * 4 {
            self.grow();
        }
        self.count += 1;
        self.insert_record(UserRecord { key: key.number(), ..UserRecord::VACANT })
    }

    /// Checks up to `look_count_max` slots from where the last sweep ended, and removes idle users. `rate`
    /// returns the rate of a bucket and the time at which to compute its level. Returns how many users were
    /// removed.
    pub(crate) fn sweep(
        &mut self,
        look_count_max: usize,
        rate: &dyn Fn(BucketId) -> Option<(Rate, Micros)>,
    ) -> usize {
        let mut forgotten = 0;
        for _ in 0..look_count_max.min(self.records.len()) {
            if self.sweep_index >= self.records.len() {
                self.sweep_index = 0;
            }
            let user = &self.records[self.sweep_index];
            if user.key != EMPTY && user.is_idle(rate) {
                // `remove` may move another user into this slot, so the same index is checked again.
                self.remove(self.sweep_index);
                forgotten += 1;
            } else {
                self.sweep_index += 1;
            }
        }
        forgotten
    }

    fn home_index(&self, key: u128) -> usize {
        spread((key >> 64) as u64, self.records.len())
    }

    fn next_index(&self, index: usize) -> usize {
        if index + 1 == self.records.len() { 0 } else { index + 1 }
    }

    fn insert_record(&mut self, user: UserRecord) -> usize {
        let mut index = self.home_index(user.key);
        while self.records[index].key != EMPTY {
            index = self.next_index(index);
        }
        self.records[index] = user;
        index
    }

    /// Grows by half, so that memory stays close to what the users need.
    fn grow(&mut self) {
        let size = (self.records.len() + self.records.len() / 2).max(8);
        let mut records = Vec::new();
        records.reserve_exact(size);
        records.resize(size, UserRecord::VACANT);
        let users = std::mem::replace(&mut self.records, records);
        for user in users {
            if user.key != EMPTY {
                self.insert_record(user);
            }
        }
        self.sweep_index = 0;
    }

    /// Empties a slot and closes the gap, so that every later user of the probe sequence stays reachable.
    fn remove(&mut self, index: usize) {
        self.count -= 1;
        let mut gap = index;
        let mut look = index;
        loop {
            look = self.next_index(look);
            let key = self.records[look].key;
            if key == EMPTY || look == index {
                break;
            }
            let home_index = self.home_index(key);
            // The user may stay if its home index lies after the gap, up to its present index.
            let stays = if look > gap {
                gap < home_index && home_index <= look
            } else {
                gap < home_index || home_index <= look
            };
            if !stays {
                self.records.swap(gap, look);
                gap = look;
            }
        }
        self.records[gap] = UserRecord::VACANT;
    }
}

/// A state after packing and unpacking: see [`Packed`].
#[cfg(test)]
pub(crate) fn round_trip_packed(state: BucketState) -> BucketState {
    Packed::new(state).state()
}

#[cfg(test)]
mod tests;
