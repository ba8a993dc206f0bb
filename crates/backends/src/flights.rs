//! The requests under way on one connection: who waits for which answer, and who hears what the backend says
//! meanwhile. Identifiers are our own numbers, never used twice on a connection, so no answer reaches a stranger.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedMutexGuard, oneshot, watch};
use tokio_util::sync::CancellationToken;
use vmcp_domain::{BackendEvent, CallContext, Caller, ClientKey, ClientPort, Json, QuestionKind};
use vmcp_wire::client::BackendNotice;

use crate::connection::{CancelledCalls, Turns};
use crate::ears::Ears;
use crate::failure::Failure;
use crate::sync::Guarded;
use crate::visits::Visits;

/// The most requests under way at one backend.
pub(crate) const FLIGHTS_MAX: usize = 4096;

/// The first identifier on a connection. Servers number their own questions and the lines of their logs from 0 or 1; none
/// of those is to be taken for one of ours.
const FIRST_ID: u64 = 1_000_000;

/// What an answer brings.
pub(crate) type Outcome = Result<Json, Failure>;

/// Whom a request is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// A client's call.
    Call(Arc<dyn ClientPort>, Asker),
    /// The gateway's own upkeep.
    Upkeep,
    /// A `subscriptions/listen`; the channel turns true when the backend has taken it up.
    Listen(watch::Sender<bool>),
}

/// Whose call it is, as far as that is known.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// The client, where its requests belong together.
    pub(crate) client: Option<ClientKey>,
    /// Who it is.
    pub(crate) caller: Caller,
    /// Where the request came from; `None` where no network is in between.
    pub(crate) address: Option<IpAddr>,
}

impl Asker {
    pub(crate) fn of(ctx: &CallContext, client: &dyn ClientPort) -> Self {
        Self { client: client.client_key(), caller: ctx.caller.clone(), address: ctx.peer }
    }

    /// True when both are certainly one client's. Requests without a session are so by their identity; without one they
    /// are where they come from this machine.
    pub(crate) fn is_one_with(&self, other: &Self) -> bool {
        match (&self.client, &other.client) {
            (Some(one), Some(other)) => one == other,
            (Some(_), None) | (None, Some(_)) => false,
            (None, None) => match (self.caller.identity(), other.caller.identity()) {
                (Some(one), Some(other)) => one.is_same_user(other),
                (Some(_), None) | (None, Some(_)) => false,
                (None, None) => {
                    let is_local = |asker: &Self| asker.address.is_none_or(|address| address.is_loopback());
                    is_local(self) && is_local(other)
                }
            },
        }
    }
}

#[derive(Debug)]
struct Flight {
    purpose: Purpose,
    answer: Option<oneshot::Sender<Outcome>>,
    /// The answer has come, though its asker may not have looked yet: what the backend says now is not about it.
    answered: bool,
    /// Tells who asks its client that nobody waits any more. Few do, so it is made for the first.
    gone: Option<CancellationToken>,
}

/// Whom a question of a backend is for.
#[derive(Debug)]
pub(crate) enum Addressee {
    /// A client, as long as its call is not gone.
    Client(Arc<dyn ClientPort>, CancellationToken),
    /// No call is under way.
    Nobody,
    /// Several calls are under way.
    Unclear,
}

/// The table of one connection.
#[derive(Debug)]
pub(crate) struct Flights {
    next: AtomicU64,
    table: Guarded<Table>,
    ears: Arc<Ears>,
    turns: Turns,
    visits: Visits,
}

#[derive(Debug, Default)]
struct Table {
    flights: HashMap<u64, Flight>,
    cancelled: CancelledCalls,
    /// Cancelled calls whose answer is still awaited, to learn when the backend has ended them.
    ends: HashMap<u64, oneshot::Sender<()>>,
}

impl Table {
    /// The newest call and its client, where every call that the backend may still be working on is of that client.
    /// A client that cannot be asked counts: the backend does not know that.
    fn only_client(&mut self) -> Result<(u64, Arc<dyn ClientPort>), Addressee> {
        let mut calls = self.flights.iter().filter_map(|(id, flight)| match &flight.purpose {
            Purpose::Call(client, asker) if !flight.answered => Some((*id, client, asker)),
            Purpose::Call(..) | Purpose::Upkeep | Purpose::Listen(_) => None,
        });
        let Some((mut newest, mut client, asker)) = calls.next() else { return Err(Addressee::Nobody) };
        for (id, other, of_other) in calls {
            if asker.client.is_none() || of_other.client != asker.client {
                return Err(Addressee::Unclear);
            }
            // A person is most likely still looking at what was begun last.
            if id > newest {
                (newest, client) = (id, other);
            }
        }
        let client = Arc::clone(client);
        if self.cancelled.are_all_of(asker) { Ok((newest, client)) } else { Err(Addressee::Unclear) }
    }
}

impl Flights {
    pub(crate) fn new(ears: Arc<Ears>) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(FIRST_ID),
            table: Guarded::default(),
            ears,
            turns: Turns::default(),
            visits: Visits::default(),
        })
    }

    /// Enters a request. It is under way until its ticket is dropped.
    pub(crate) fn enter(self: &Arc<Self>, purpose: Purpose) -> Result<Ticket, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.lock();
        if table.flights.len() >= FLIGHTS_MAX {
            return Err(Failure::Overloaded);
        }
        table.flights.insert(id, Flight { purpose, answer: None, answered: false, gone: None });
        Ok(Ticket { id, is_done: false, flights: Arc::clone(self) })
    }

    /// Delivers an answer that came over a shared channel. False when nobody waited for it.
    pub(crate) fn answer(&self, id: Option<u64>, outcome: Outcome) -> bool {
        let waiting = id.and_then(|id| {
            let mut table = self.table.lock();
            table.cancelled.answered(id);
            // Letting go of it tells.
            drop(table.ends.remove(&id));
            let flight = table.flights.get_mut(&id)?;
            let waiting = flight.answer.take();
            flight.answered |= waiting.is_some();
            waiting
        });
        match waiting {
            // The asker may have gone in this very moment.
            Some(waiting) => {
                drop(waiting.send(outcome));
                true
            }
            None => {
                tracing::debug!(backend = %self.ears.backend(), id, "dropped an answer that nobody waits for");
                false
            }
        }
    }

    /// Waits until the backend has answered a request that nobody waits for any more, or will not. To be called before the
    /// request's ticket is dropped.
    pub(crate) fn end_of(&self, id: u64) -> impl Future<Output = ()> + Send + 'static {
        let (told, end) = oneshot::channel();
        let mut table = self.table.lock();
        // Without a flight the answer has come, or is not wanted.
        if table.flights.get(&id).is_some_and(|flight| !flight.answered) {
            table.ends.retain(|_, told| !told.is_closed());
            table.ends.insert(id, told);
        }
        async move {
            let _ = end.await;
        }
    }

    /// Tells everybody who waits for an answer that none will come.
    pub(crate) fn abandon(&self) {
        let mut table = self.table.lock();
        table.ends.clear();
        for flight in table.flights.values_mut() {
            flight.answer = None;
        }
    }

    /// Ends the only waiting request, when there is only one: what came is certainly about it. False when there is not.
    pub(crate) fn answer_only(&self, failure: Failure) -> bool {
        let only = {
            let table = self.table.lock();
            let mut waiting = table.flights.iter().filter(|(_, flight)| flight.answer.is_some());
            match (waiting.next(), waiting.next()) {
                (Some((id, _)), None) => Some(*id),
                _ => None,
            }
        };
        only.is_some_and(|id| self.answer(Some(id), Err(failure)))
    }

    /// True while the request is under way.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.table.lock().flights.contains_key(&id)
    }

    /// True while a client's call waits for its answer.
    pub(crate) fn has_calls(&self) -> bool {
        let waits = |flight: &Flight| matches!(flight.purpose, Purpose::Call(..)) && !flight.answered;
        self.table.lock().flights.values().any(waits)
    }

    /// Hands a notification to whom it concerns. `own` is the request on whose own stream it came, if any.
    pub(crate) fn hear(&self, notice: BackendNotice, own: Option<u64>) {
        match notice {
            BackendNotice::Progress { token, params } => {
                if let Some(client) = self.client(token) {
                    client.progress(params);
                }
            }
            BackendNotice::Log { level, params } => {
                let client = match own {
                    Some(id) => self.client(id),
                    None => self.table.lock().only_client().ok().map(|(_, client)| client),
                };
                if let Some(client) =
                    client.filter(|client| client.log_level().is_some_and(|least| level >= least))
                {
                    client.log(level, params);
                }
            }
            BackendNotice::ToolsChanged => self.ears.tell(BackendEvent::ToolsChanged),
            BackendNotice::ResourcesChanged => self.ears.tell(BackendEvent::ResourcesChanged),
            BackendNotice::PromptsChanged => self.ears.tell(BackendEvent::PromptsChanged),
            BackendNotice::ResourceUpdated(uri) => self.ears.tell(BackendEvent::ResourceUpdated(uri)),
            BackendNotice::Listening(id) => {
                if let Some(taken) = self.listening(id) {
                    taken.send_replace(true);
                }
            }
            BackendNotice::ListeningEnded(id) => {
                if self.listening(id).is_some()
                    && let Some(flight) = self.table.lock().flights.get_mut(&id)
                {
                    flight.answer = None;
                }
            }
            BackendNotice::Visited(id) => self.visits.done(&id),
            BackendNotice::Other => {}
        }
    }

    /// Whom a question of the backend is for: the client of the request on whose stream it came, else the one client
    /// that everything is for on which the backend may still be working. Where there are several, nothing tells which
    /// one is meant; from then on the calls of one user that may be asked take turns for a while.
    pub(crate) fn asked(&self, own: Option<u64>) -> Addressee {
        let mut table = self.table.lock();
        let (id, client) = match own {
            None => match table.only_client() {
                Ok(found) => found,
                Err(addressee) => {
                    if matches!(addressee, Addressee::Unclear) && self.turns.begin() {
                        tracing::warn!(
                            backend = %self.ears.backend(),
                            "a question of the backend was refused: calls of several clients share its connection, and \
                             nothing tells whose call it is about; `isolation: perCaller` gives each its own connection"
                        );
                    }
                    return addressee;
                }
            },
            Some(own) => match table.flights.get(&own) {
                Some(Flight { purpose: Purpose::Call(client, _), answered: false, .. }) => {
                    (own, Arc::clone(client))
                }
                _ => return Addressee::Nobody,
            },
        };
        let gone = table.flights.get_mut(&id).map(|flight| flight.gone.get_or_insert_default().clone());
        Addressee::Client(client, gone.unwrap_or_default())
    }

    /// The pages that clients were sent to.
    pub(crate) fn visits(&self) -> &Visits {
        &self.visits
    }

    /// Waits until it is this call's turn, where calls of one user whose client can be asked take turns.
    pub(crate) async fn turn(&self, caller: &Caller, client: &dyn ClientPort) -> Option<OwnedMutexGuard<()>> {
        if !self.turns.are_taken() {
            return None;
        }
        let kinds = [QuestionKind::Elicitation, QuestionKind::Sampling, QuestionKind::Roots];
        if !kinds.iter().any(|kind| client.capabilities().allows(*kind)) {
            return None;
        }
        self.turns.take(caller, || client.client_key()).await
    }

    fn client(&self, id: u64) -> Option<Arc<dyn ClientPort>> {
        match &self.table.lock().flights.get(&id).filter(|flight| !flight.answered)?.purpose {
            Purpose::Call(client, _) => Some(Arc::clone(client)),
            Purpose::Upkeep | Purpose::Listen(_) => None,
        }
    }

    fn listening(&self, id: u64) -> Option<watch::Sender<bool>> {
        match &self.table.lock().flights.get(&id)?.purpose {
            Purpose::Listen(taken) => Some(taken.clone()),
            Purpose::Call(..) | Purpose::Upkeep => None,
        }
    }
}

/// One request's place in the table.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: u64,
    is_done: bool,
    flights: Arc<Flights>,
}

impl Ticket {
    /// The request's identifier, which is its progress token too.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Where the answer arrives, for links whose answers share a channel. The channel closes when none will come.
    pub(crate) fn wait(&self) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        if let Some(flight) = self.flights.table.lock().flights.get_mut(&self.id) {
            flight.answer = Some(sender);
        }
        receiver
    }

    /// The backend has certainly ended with the request, or never began it.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.flights.table.lock();
        let Some(flight) = table.flights.remove(&self.id) else { return };
        if let Purpose::Call(_, asker) = &flight.purpose
            && !self.is_done
            && !flight.answered
        {
            table.cancelled.add(self.id, asker.clone());
        }
        drop(table);
        if let Some(gone) = flight.gone {
            gone.cancel();
        }
    }
}
