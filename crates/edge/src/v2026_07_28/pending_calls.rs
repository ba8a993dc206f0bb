//! Calls that wait for their client's next round. Their number is bounded, over all callers and for each
//! caller. If a client does not come back, the time-out of the questions ends the call. `rounds` executes the
//! rounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use ring::digest::{Context, SHA256};
use tokio::task::AbortHandle;
use vmcp_domain::Caller;
use vmcp_json::Json;
use vmcp_wire::server::MultiRoundRequest;

use crate::v2026_07_28::round_state::RoundState;
use crate::v2026_07_28::seal::Seal;

/// The maximum number of pending calls, over all callers.
const PENDING_CALLS_MAX: usize = 4096;
/// The maximum number of pending calls of one caller. All anonymous callers count as one.
const PENDING_CALLS_PER_CALLER_MAX: usize = 256;
/// How long the outcome of a call is kept for a client that has not come back.
pub(crate) const OUTCOME_TTL: Duration = Duration::from_mins(1);

/// The caller and the request that a state is bound to, as digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateBinding {
    caller: [u8; 32],
    request: [u8; 32],
}

impl StateBinding {
    /// The binding of a request.
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

/// A digest of the caller, to which sealed values are bound.
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

/// A call that waits for its client.
#[derive(Debug)]
pub(crate) struct PendingCall {
    key: [u8; 16],
    binding: StateBinding,
    round: AtomicU32,
    pub(crate) round_state: Arc<RoundState>,
    task: AbortHandle,
}

/// The result of looking up a state that a client sent.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// The state was not made by this process; a backend may understand it.
    Foreign,
    /// The pending call that the state belongs to.
    Found(Arc<PendingCall>),
    /// The state was made by this process but is not valid: altered, bound to another caller or request, used
    /// before, or too old. The text is the error message.
    Refused(&'static str),
}

/// All pending calls.
pub(crate) struct PendingCalls {
    /// `None` if the system has no random bytes; then no call can be pending.
    seal: Option<Seal>,
    calls: Mutex<HashMap<[u8; 16], Arc<PendingCall>>>,
}

impl PendingCalls {
    pub(crate) fn new() -> Self {
        Self { seal: Seal::new(), calls: Mutex::default() }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<[u8; 16], Arc<PendingCall>>> {
        self.calls.lock()
    }

    /// Adds a pending call and lets `start` spawn its task. `None` if a limit is reached or the system has no
    /// random bytes; then `start` is not called.
    pub(crate) fn insert(
        &self,
        binding: StateBinding,
        round_state: &Arc<RoundState>,
        start: impl FnOnce([u8; 16]) -> AbortHandle,
    ) -> Option<Arc<PendingCall>> {
        self.seal.as_ref()?;
        let mut key = [0; 16];
        getrandom::fill(&mut key).ok()?;
        let mut table = self.calls();
        let own = table.values().filter(|call| call.binding.caller == binding.caller).count();
        if table.len() >= PENDING_CALLS_MAX || own >= PENDING_CALLS_PER_CALLER_MAX {
            return None;
        }
        let round_state = Arc::clone(round_state);
        let call =
            Arc::new(PendingCall { key, binding, round: AtomicU32::new(0), round_state, task: start(key) });
        table.insert(key, Arc::clone(&call));
        Some(call)
    }

    /// The state for the next round of a call. States of earlier rounds become invalid.
    pub(crate) fn next_state(&self, call: &PendingCall) -> Option<String> {
        let round = call.round.fetch_add(1, Ordering::AcqRel) + 1;
        let content = [&call.key[..], &round.to_le_bytes()].concat();
        self.seal.as_ref()?.seal(&content, &call.binding.associated_data())
    }

    /// Finds the pending call of a state and claims its round.
    pub(crate) fn find(&self, state: &str, binding: &StateBinding) -> Lookup {
        let unsealed = self.seal.as_ref().and_then(|seal| seal.open(state, &binding.associated_data()));
        let Some(unsealed) = unsealed else { return Lookup::Foreign };
        let refused = Lookup::Refused("`requestState` is not one that was given for this request");
        let Ok(content) = unsealed else { return refused };
        let Some((key, round)) = content.split_first_chunk::<16>() else { return refused };
        let Ok(round) = <[u8; 4]>::try_from(round).map(u32::from_le_bytes) else { return refused };
        let Some(call) = self.calls().get(key).cloned() else {
            return Lookup::Refused("the request that `requestState` belongs to has ended; begin it again");
        };
        // The first request with this state claims the round; the state is then invalid for every other
        // request.
        let next = round.wrapping_add(1);
        if call.round.compare_exchange(round, next, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return Lookup::Refused("`requestState` has been used before");
        }
        Lookup::Found(call)
    }

    /// Removes a call that is done.
    pub(crate) fn remove(&self, key: &[u8; 16]) {
        self.calls().remove(key);
    }

    /// Aborts a call because its client is gone.
    pub(crate) fn cancel(&self, call: &PendingCall) {
        call.task.abort();
        self.remove(&call.key);
    }

    /// Refuses every open and future question, because clients cannot answer after shutdown has begun.
    pub(crate) fn close_questions(&self) {
        for call in self.calls().values() {
            call.round_state.close();
        }
    }
}

impl PendingCall {
    pub(crate) fn key(&self) -> &[u8; 16] {
        &self.key
    }

    /// Makes the state that was just claimed valid again.
    pub(crate) fn restore_round(&self) {
        self.round.fetch_sub(1, Ordering::AcqRel);
    }
}
