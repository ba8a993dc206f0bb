//! Calls that wait for their client's next round. Bounded in number, over all and for each caller; a call that nobody
//! comes back to ends with its questions' own time. What is said in a round is `rounds`'.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest::{Context, SHA256};
use tokio::task::AbortHandle;
use vmcp_domain::{Caller, Json};
use vmcp_wire::server::MultiRoundRequest;

use crate::v2026_07_28::round_state::RoundState;
use crate::v2026_07_28::seal::Seal;

/// How many calls may wait, over all.
const PENDING_CALLS_MAX: usize = 4096;
/// How many calls of one caller may wait; callers without a name are one.
const PENDING_CALLS_PER_CALLER_MAX: usize = 256;
/// How long what came of a call is kept for a client that has not come back.
pub(crate) const OUTCOME_TTL: Duration = Duration::from_mins(1);

/// Whom a state is for and on which request: digests of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateBinding {
    caller: [u8; 32],
    request: [u8; 32],
}

impl StateBinding {
    /// The ticket of a request.
    pub(crate) fn of(caller: &Caller, request: &MultiRoundRequest<'_>) -> Self {
        let caller = caller_digest(caller);
        let request = digest(&[
            request.method,
            request.subject,
            request.arguments.map_or("", Json::as_str),
            request.extra.to_json().as_str(),
        ]);
        Self { caller, request }
    }

    fn associated_data(&self) -> Vec<u8> {
        [self.caller, self.request].concat()
    }
}

/// A caller, as what is sealed is bound to one.
pub(crate) fn caller_digest(caller: &Caller) -> [u8; 32] {
    match caller.identity() {
        None => digest(&["anonymous"]),
        Some(identity) => digest(&["known", &identity.issuer, &identity.subject]),
    }
}

fn digest(parts: &[&str]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// A call that waits.
#[derive(Debug)]
pub(crate) struct PendingCall {
    key: [u8; 16],
    binding: StateBinding,
    round: AtomicU32,
    pub(crate) round_state: Arc<RoundState>,
    task: AbortHandle,
}

/// What becomes of a state that a client brings.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// It is none of ours, and for a backend to understand.
    Foreign,
    /// The call that waits for it.
    Found(Arc<PendingCall>),
    /// It is ours and of no use: changed, for another caller or request, used before, or too late.
    Refused(&'static str),
}

/// Every call that waits.
pub(crate) struct PendingCalls {
    /// `None` on a system without randomness: then no call waits.
    seal: Option<Seal>,
    calls: Mutex<HashMap<[u8; 16], Arc<PendingCall>>>,
}

impl PendingCalls {
    pub(crate) fn new() -> Self {
        Self { seal: Seal::new(), calls: Mutex::default() }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<[u8; 16], Arc<PendingCall>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a call, whose work runs as `task`. `None` when too many wait already.
    pub(crate) fn insert(
        &self,
        ticket: StateBinding,
        dialogue: &Arc<RoundState>,
        start: impl FnOnce([u8; 16]) -> AbortHandle,
    ) -> Option<Arc<PendingCall>> {
        self.seal.as_ref()?;
        let mut key = [0; 16];
        getrandom::fill(&mut key).ok()?;
        let mut table = self.calls();
        let own = table.values().filter(|parked| parked.binding.caller == ticket.caller).count();
        if table.len() >= PENDING_CALLS_MAX || own >= PENDING_CALLS_PER_CALLER_MAX {
            return None;
        }
        let dialogue = Arc::clone(dialogue);
        let parked = Arc::new(PendingCall {
            key,
            binding: ticket,
            round: AtomicU32::new(0),
            round_state: dialogue,
            task: start(key),
        });
        table.insert(key, Arc::clone(&parked));
        Some(parked)
    }

    /// The state for the next round of a call. States of earlier rounds are of no use from now on.
    pub(crate) fn next_state(&self, parked: &PendingCall) -> Option<String> {
        let round = parked.round.fetch_add(1, Ordering::AcqRel) + 1;
        let content = [&parked.key[..], &round.to_le_bytes()].concat();
        self.seal.as_ref()?.seal(&content, &parked.binding.associated_data())
    }

    /// The call that a state leads to.
    pub(crate) fn find(&self, state: &str, ticket: &StateBinding) -> Lookup {
        let opened = self.seal.as_ref().and_then(|seal| seal.open(state, &ticket.associated_data()));
        let Some(opened) = opened else { return Lookup::Foreign };
        let refused = Lookup::Refused("`requestState` is not one that was given for this request");
        let Ok(content) = opened else { return refused };
        let Some((key, round)) = content.split_first_chunk::<16>() else { return refused };
        let Ok(round) = <[u8; 4]>::try_from(round).map(u32::from_le_bytes) else { return refused };
        let Some(parked) = self.calls().get(key).cloned() else {
            return Lookup::Refused("the request that `requestState` belongs to has ended; begin it again");
        };
        // Whoever comes first goes on; the round is over for everybody else.
        let next = round.wrapping_add(1);
        if parked.round.compare_exchange(round, next, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return Lookup::Refused("`requestState` has been used before");
        }
        Lookup::Found(parked)
    }

    /// Forgets a call that is done.
    pub(crate) fn remove(&self, key: &[u8; 16]) {
        self.calls().remove(key);
    }

    /// Ends a call whose client has gone.
    pub(crate) fn cancel(&self, parked: &PendingCall) {
        parked.task.abort();
        self.remove(&parked.key);
    }

    /// Refuses every question that waits, now and later: no client can answer any more.
    pub(crate) fn close_questions(&self) {
        for parked in self.calls().values() {
            parked.round_state.close();
        }
    }
}

impl PendingCall {
    pub(crate) fn key(&self) -> &[u8; 16] {
        &self.key
    }

    /// Makes the state that has just been claimed good again.
    pub(crate) fn restore_round(&self) {
        self.round.fetch_sub(1, Ordering::AcqRel);
    }
}
