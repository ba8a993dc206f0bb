//! How many workflows run.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use vmcp_domain::{Caller, User};

use crate::policy::WorkflowPolicy;

/// The running workflows by caller. All anonymous callers share one count.
pub(super) struct RunningLimit {
    policy: WorkflowPolicy,
    running: Mutex<HashMap<Option<User>, usize>>,
}

/// A running workflow, which ends when this is dropped.
pub(super) struct Permit<'a> {
    limit: &'a RunningLimit,
    user: Option<User>,
}

impl RunningLimit {
    pub(super) fn new(policy: WorkflowPolicy) -> Self {
        Self { policy, running: Mutex::default() }
    }

    /// Counts one more workflow of a caller. `None` if too many run.
    pub(super) fn acquire(&self, caller: &Caller) -> Option<Permit<'_>> {
        let user = caller.user();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = running.values().sum();
        let own = running.get(&user).copied().unwrap_or(0);
        // Anonymous callers cannot be told apart, so only the common bound holds for them.
        let own_max = if user.is_some() { self.policy.running_max_per_caller } else { usize::MAX };
        if all >= self.policy.running_max || own >= own_max {
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
