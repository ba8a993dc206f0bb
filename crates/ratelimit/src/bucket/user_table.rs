//! The users' table of one shard: open addressing over cache lines, a user's two most common buckets inline.
//! Users whose buckets are all full again are swept out, which forgets nothing; a user in debt never is.

mod packed;

use std::num::NonZeroU128;

use crate::bucket::rate::{BucketState, Level, Rate};
use crate::clock::Micros;
use crate::plan::BucketId;
use packed::Packed;

/// A caller, hashed with this process's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey(NonZeroU128);

impl UserKey {
    /// All users beyond the bound of the store together.
    pub(crate) const OVERFLOW: Self = Self(NonZeroU128::MIN);

    /// One of several that stand for all values beyond a bound.
    pub(crate) fn overflow(place: usize) -> Self {
        Self(NonZeroU128::MIN.saturating_add(place as u128))
    }

    /// Takes over a hash. Zero marks an empty place, so it becomes one.
    #[must_use]
    pub fn new(hash: u128) -> Self {
        Self(NonZeroU128::new(hash).unwrap_or(NonZeroU128::MIN))
    }

    /// The hash.
    pub(crate) fn number(self) -> u128 {
        self.0.get()
    }

    /// A number below `count`, evenly spread, from the half of the hash that the table does not use.
    pub(crate) fn shard(self, count: usize) -> usize {
        spread(self.number() as u64, count)
    }
}

/// Maps a hash evenly onto `0..count` without a division.
fn spread(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

const EMPTY: u128 = 0;
const NO_BUCKET: BucketId = BucketId(u32::MAX);

/// One user: exactly one cache line on common machines.
#[derive(Clone, Debug)]
pub(crate) struct UserRecord {
    key: u128,
    states: [Packed; 2],
    ids: [BucketId; 2],
    spilled: Option<Box<SpilledState>>,
}

/// What does not fit into the line.
#[derive(Clone, Debug, Default)]
struct SpilledState {
    states: Vec<(BucketId, Packed)>,
    in_flight: Vec<(BucketId, u32)>,
}

impl UserRecord {
    const VACANT: Self = Self { key: EMPTY, states: [Packed::NONE; 2], ids: [NO_BUCKET; 2], spilled: None };

    /// The state of a bucket; `None` means it has never been spent from, or has been full since.
    pub(crate) fn state(&self, id: BucketId) -> Option<BucketState> {
        self.packed(id).map(Packed::state)
    }

    /// The level of a bucket alone.
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

    /// A bucket pays at `now`: it held `before` units then, and holds `after` from there on.
    #[inline]
    pub(crate) fn spend(&mut self, id: BucketId, rate: &Rate, (before, after): (i64, i64), now: Micros) {
        if let Some(place) = self.ids.iter().position(|known| *known == id) {
            self.states[place].spend(rate, (before, after), now);
            return;
        }
        let mut state = self.state(id).unwrap_or_else(|| BucketState::full(rate, now));
        state.spend(rate, (before, after), now);
        self.set_state(id, state);
    }

    /// Sets the state of a bucket.
    pub(crate) fn set_state(&mut self, id: BucketId, state: BucketState) {
        let state = Packed::new(state);
        for wanted in [id, NO_BUCKET] {
            if let Some(place) = self.ids.iter().position(|known| *known == wanted)
                && (wanted == id
                    || !self.spilled.as_ref().is_some_and(|more| more.states.iter().any(|one| one.0 == id)))
            {
                self.ids[place] = id;
                self.states[place] = state;
                return;
            }
        }
        let more = self.spilled.get_or_insert_default();
        match more.states.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = state,
            None => more.states.push((id, state)),
        }
    }

    /// The states of all its buckets.
    pub(crate) fn states(&self) -> impl Iterator<Item = (BucketId, BucketState)> {
        let inline = self.ids.iter().zip(&self.states).filter(|(id, _)| **id != NO_BUCKET);
        let inline = inline.map(|(id, state)| (*id, state.state()));
        let more = self.spilled.iter().flat_map(|more| &more.states);
        inline.chain(more.map(|(id, state)| (*id, state.state())))
    }

    /// Forgets the state of a bucket, and returns it.
    pub(crate) fn take_state(&mut self, id: BucketId) -> Option<BucketState> {
        let state = self.state(id)?;
        if let Some(place) = self.ids.iter().position(|known| *known == id) {
            self.ids[place] = NO_BUCKET;
        } else if let Some(more) = &mut self.spilled {
            more.states.retain(|(known, _)| *known != id);
            self.drop_spilled_if_empty();
        }
        Some(state)
    }

    /// How many calls are in flight under a bound.
    pub(crate) fn in_flight(&self, id: BucketId) -> u32 {
        let more = self.spilled.as_ref().map(|more| more.in_flight.as_slice()).unwrap_or_default();
        more.iter().find(|(known, _)| *known == id).map_or(0, |(_, count)| *count)
    }

    /// Sets how many calls are in flight under a bound.
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

    /// True when forgetting the user changes nothing: every bucket is full and nothing is in flight.
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
    /// How many users there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes taken, without what single users have beyond their line.
    pub(crate) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<UserRecord>()
    }

    /// The place of a user.
    pub(crate) fn find(&self, key: UserKey) -> Option<usize> {
        if self.records.is_empty() {
            return None;
        }
        let mut place = self.home_index(key.number());
        loop {
            match self.records[place].key {
                EMPTY => return None,
                known if known == key.number() => return Some(place),
                _ => place = self.next_index(place),
            }
        }
    }

    /// The user at a place that [`UserTable::find`] or [`UserTable::insert`] returned.
    pub(crate) fn at(&self, place: usize) -> &UserRecord {
        &self.records[place]
    }

    /// The same, to be changed.
    pub(crate) fn at_mut(&mut self, place: usize) -> &mut UserRecord {
        &mut self.records[place]
    }

    /// All users.
    pub(crate) fn users(&self) -> impl Iterator<Item = (UserKey, &UserRecord)> {
        self.records.iter().filter(|user| user.key != EMPTY).map(|user| (UserKey::new(user.key), user))
    }

    /// Adds a user who is not there and returns the place.
    pub(crate) fn insert(&mut self, key: UserKey) -> usize {
        if (self.count + 1) * 5 > self.records.len() * 4 {
            self.grow();
        }
        self.count += 1;
        self.insert_record(UserRecord { key: key.number(), ..UserRecord::VACANT })
    }

    /// Looks at up to `look_count_max` places from where the last sweep ended and forgets idle users.
    /// `rate` says how a bucket fills, and the time that it goes by. Returns how many were forgotten.
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
                // Another user may have moved into the place, so it is looked at again.
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

    fn next_index(&self, place: usize) -> usize {
        if place + 1 == self.records.len() { 0 } else { place + 1 }
    }

    fn insert_record(&mut self, user: UserRecord) -> usize {
        let mut place = self.home_index(user.key);
        while self.records[place].key != EMPTY {
            place = self.next_index(place);
        }
        self.records[place] = user;
        place
    }

    /// Grows by half: memory stays close to what the users need.
    fn grow(&mut self) {
        let size = (self.records.len() + self.records.len() / 2).max(8);
        let mut places = Vec::new();
        places.reserve_exact(size);
        places.resize(size, UserRecord::VACANT);
        let users = std::mem::replace(&mut self.records, places);
        for user in users {
            if user.key != EMPTY {
                self.insert_record(user);
            }
        }
        self.sweep_index = 0;
    }

    /// Empties a place and closes the gap, so that no later user becomes unreachable.
    fn remove(&mut self, place: usize) {
        self.count -= 1;
        let mut gap = place;
        let mut look = place;
        loop {
            look = self.next_index(look);
            let key = self.records[look].key;
            if key == EMPTY || look == place {
                break;
            }
            let home = self.home_index(key);
            // The user may stay when its home lies in the stretch after the gap, up to where it is.
            let stays = if look > gap { gap < home && home <= look } else { gap < home || home <= look };
            if !stays {
                self.records.swap(gap, look);
                gap = look;
            }
        }
        self.records[gap] = UserRecord::VACANT;
    }
}

/// A state as the table gives it back: see [`Packed`].
#[cfg(test)]
pub(crate) fn round_trip_packed(state: BucketState) -> BucketState {
    Packed::new(state).state()
}

#[cfg(test)]
mod tests;
