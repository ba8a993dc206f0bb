//! How many runs there are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use vmcp_domain::{Caller, User};

/// The runs by caller. All anonymous callers share one count.
#[derive(Debug)]
pub struct RunningLimit {
    /// For all callers together.
    most: usize,
    /// For each caller.
    most_per_caller: usize,
    running: Mutex<HashMap<Option<User>, usize>>,
}

/// A run, which ends when this is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    limit: &'a RunningLimit,
    user: Option<User>,
}

impl RunningLimit {
    /// A limit for all callers together, and one for each caller with an identity.
    #[must_use]
    pub fn new(most: usize, most_per_caller: usize) -> Self {
        Self { most, most_per_caller, running: Mutex::default() }
    }

    /// How many runs there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Counts one more run of a caller. `None` if there are too many.
    pub fn acquire(&self, caller: &Caller) -> Option<Permit<'_>> {
        let user = caller.user();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = running.values().sum();
        let own = running.get(&user).copied().unwrap_or(0);
        // Anonymous callers cannot be told apart, so only the common bound holds for them.
        let own_max = if user.is_some() { self.most_per_caller } else { usize::MAX };
        if all >= self.most || own >= own_max {
            return None;
        }
        running.insert(user.clone(), own + 1);
        Some(Permit { limit: self, user })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut running = self.limit.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.user);
            }
        }
    }
}
