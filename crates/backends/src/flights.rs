//! The requests under way on one connection: who waits for which answer, and who hears what the backend says
//! meanwhile. Identifiers are our own numbers, never used twice on a connection, so no answer reaches a stranger.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio_util::sync::CancellationToken;
use vmcp_domain::{BackendEvent, ClientPort, Json, QuestionKind};
use vmcp_wire::client::BackendNotice;
use vmcp_wire::jsonrpc::RpcError;

use crate::ears::Ears;
use crate::failure::Failure;
use crate::sync::Guarded;
use crate::visits::Visits;

/// The most requests under way at one backend.
pub(crate) const FLIGHTS_MAX: usize = 4096;

/// What an answer brings.
pub(crate) type Outcome = Result<Json, RpcError>;

/// Whom a request is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// A client's call.
    Call(Arc<dyn ClientPort>),
    /// The gateway's own upkeep.
    Upkeep,
    /// A `subscriptions/listen`; the channel turns true when the backend has taken it up.
    Listen(watch::Sender<bool>),
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
    table: Guarded<HashMap<u64, Flight>>,
    ears: Arc<Ears>,
    /// The backend has asked while it was not clear whom.
    crowded: AtomicBool,
    turns: Semaphore,
    visits: Visits,
}

impl Flights {
    pub(crate) fn new(ears: Arc<Ears>) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(1),
            table: Guarded::default(),
            ears,
            crowded: AtomicBool::new(false),
            turns: Semaphore::new(1),
            visits: Visits::default(),
        })
    }

    /// Enters a request. It is under way until its ticket is dropped.
    pub(crate) fn enter(self: &Arc<Self>, purpose: Purpose) -> Result<Ticket, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.lock();
        if table.len() >= FLIGHTS_MAX {
            return Err(Failure::Overloaded);
        }
        table.insert(id, Flight { purpose, answer: None, answered: false, gone: None });
        Ok(Ticket { id, flights: Arc::clone(self) })
    }

    /// Delivers an answer that came over a shared channel.
    pub(crate) fn answer(&self, id: Option<u64>, outcome: Outcome) {
        let waiting = id.and_then(|id| {
            let mut table = self.table.lock();
            let flight = table.get_mut(&id)?;
            let waiting = flight.answer.take();
            flight.answered |= waiting.is_some();
            waiting
        });
        match waiting {
            // The asker may have gone in this very moment.
            Some(waiting) => drop(waiting.send(outcome)),
            None => {
                tracing::debug!(backend = %self.ears.backend(), id, "dropped an answer that nobody waits for");
            }
        }
    }

    /// Tells everybody who waits for an answer that none will come.
    pub(crate) fn abandon(&self) {
        for flight in self.table.lock().values_mut() {
            flight.answer = None;
        }
    }

    /// Tells the only waiting request that none will come, when there is only one.
    pub(crate) fn abandon_only(&self) {
        let mut table = self.table.lock();
        if table.len() == 1 {
            table.values_mut().for_each(|flight| flight.answer = None);
        }
    }

    /// True while the request is under way.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.table.lock().contains_key(&id)
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
                    None => self.only_client(),
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
                    && let Some(flight) = self.table.lock().get_mut(&id)
                {
                    flight.answer = None;
                }
            }
            BackendNotice::Visited(id) => self.visits.done(&id),
            BackendNotice::Other => {}
        }
    }

    /// Whom a question of the backend is for: the client of the request on whose stream it came, else the only one under
    /// way that can be asked such a thing. With several of them nothing tells which one is meant, unless it is one
    /// client that made them all; from then on calls of such clients go one at a time.
    pub(crate) fn asked(&self, own: Option<u64>, kind: QuestionKind) -> Addressee {
        let mut table = self.table.lock();
        let mut calls: Vec<(u64, &Arc<dyn ClientPort>)> = table
            .iter()
            .filter(|(id, flight)| own.is_none_or(|own| own == **id) && !flight.answered)
            .filter_map(|(id, flight)| match &flight.purpose {
                Purpose::Call(client) => Some((*id, client)),
                Purpose::Upkeep | Purpose::Listen(_) => None,
            })
            .collect();
        if own.is_none() && calls.iter().any(|(_, client)| client.capabilities().allows(kind)) {
            calls.retain(|(_, client)| client.capabilities().allows(kind));
        }
        // The newest of one client's: it is the one that a person is most likely still looking at.
        calls.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        let Some(&(id, client)) = calls.first() else { return Addressee::Nobody };
        let key = client.client_key();
        if calls.len() > 1 && (key.is_none() || calls.iter().any(|(_, other)| other.client_key() != key)) {
            if !self.crowded.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    backend = %self.ears.backend(),
                    "a question cannot be told from others of calls under way; calls that may be asked go one at a time now"
                );
            }
            return Addressee::Unclear;
        }
        let client = Arc::clone(client);
        let gone = table.get_mut(&id).map(|flight| flight.gone.get_or_insert_default().clone());
        Addressee::Client(client, gone.unwrap_or_default())
    }

    /// The pages that clients were sent to.
    pub(crate) fn visits(&self) -> &Visits {
        &self.visits
    }

    /// Waits until it is this call's turn, where calls whose client can be asked go one at a time.
    pub(crate) async fn turn(&self, client: &dyn ClientPort) -> Option<SemaphorePermit<'_>> {
        let kinds = [QuestionKind::Elicitation, QuestionKind::Sampling, QuestionKind::Roots];
        let waits = self.crowded.load(Ordering::Relaxed)
            && kinds.iter().any(|kind| client.capabilities().allows(*kind));
        // The semaphore is never closed.
        if waits { self.turns.acquire().await.ok() } else { None }
    }

    fn client(&self, id: u64) -> Option<Arc<dyn ClientPort>> {
        match &self.table.lock().get(&id).filter(|flight| !flight.answered)?.purpose {
            Purpose::Call(client) => Some(Arc::clone(client)),
            Purpose::Upkeep | Purpose::Listen(_) => None,
        }
    }

    /// The client that everything under way is for; `None` where there are several, and what is said without a word about
    /// whom it is for may be about any of them.
    fn only_client(&self) -> Option<Arc<dyn ClientPort>> {
        let table = self.table.lock();
        let calls =
            table.values().filter(|flight| !flight.answered).filter_map(|flight| match &flight.purpose {
                Purpose::Call(client) => Some(client),
                Purpose::Upkeep | Purpose::Listen(_) => None,
            });
        let calls: Vec<&Arc<dyn ClientPort>> = calls.collect();
        let first = *calls.first()?;
        let key = first.client_key();
        let one =
            calls.len() == 1 || (key.is_some() && calls.iter().all(|client| client.client_key() == key));
        one.then(|| Arc::clone(first))
    }

    fn listening(&self, id: u64) -> Option<watch::Sender<bool>> {
        match &self.table.lock().get(&id)?.purpose {
            Purpose::Listen(taken) => Some(taken.clone()),
            Purpose::Call(_) | Purpose::Upkeep => None,
        }
    }
}

/// One request's place in the table.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: u64,
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
        if let Some(flight) = self.flights.table.lock().get_mut(&self.id) {
            flight.answer = Some(sender);
        }
        receiver
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let flight = self.flights.table.lock().remove(&self.id);
        if let Some(gone) = flight.and_then(|flight| flight.gone) {
            gone.cancel();
        }
    }
}
