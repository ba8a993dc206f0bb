//! The store itself: decisions, alone or together, and everything else a replica asks of the server.

mod slots;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vmcp_domain::BoxFuture;
use vmcp_ratelimit::{
    Ask, Blocks, Change, Clock as _, Micros, Order, RemoteBucket, RemoteStore, RemoteVerdict, StoreFailure,
    SystemClock, Taken,
};

use crate::flights::{Answer, Flights, Seat};
use crate::keeper;
use crate::policy::RedisPolicy;
use crate::refusals::Refusals;
use crate::script::{Grant, read_taken};
use crate::server::Server;

/// A store over Redis or Valkey. Dropping it ends its background tasks.
pub struct RedisStore {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    server: Arc<Server>,
    flights: Flights,
    refusals: Refusals,
    /// Only measures how much time has passed here.
    clock: SystemClock,
    runtime: Handle,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore")
            .field("target", self.shared.server.policy.target())
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Starts a store and returns at once, whether the server answers or not: connecting is the background's.
    ///
    /// # Panics
    /// Outside a tokio runtime with timers and sockets.
    #[must_use]
    pub fn start(policy: RedisPolicy) -> Self {
        if policy.is_tls() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // The client library takes the process's own; somebody else may have been faster, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let server = Arc::new(Server::new(policy));
        let runtime = Handle::current();
        let keeper = runtime.spawn(keeper::keep(server.clone()));
        let clock = SystemClock::start();
        let shared = Shared { server, flights: Flights::new(), refusals: Refusals::new(), clock, runtime };
        Self { shared: Arc::new(shared), keeper }
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Shared {
    async fn admit(self: &Arc<Self>, ask: &Ask) -> Answer {
        if ask.buckets.is_empty() {
            let at = Micros::default();
            return Ok(RemoteVerdict { admitted: true, levels: SmallVec::new(), pays: SmallVec::new(), at });
        }
        if self.server.breaker.is_open() {
            return Err(StoreFailure::Resting);
        }
        if let Some(refusal) = self.refusals.find(ask, self.clock.now()) {
            return Ok(refusal);
        }
        match self.flights.board(ask) {
            Seat::Lead(ask) => {
                let flight = Box::pin(self.clone().lead(ask.clone()));
                let mut lead = Lead { shared: self.clone(), ask, flight: Some(flight) };
                let grant = lead.land().await;
                grant.map(|grant| grant.verdict(&lead.ask, 0))
            }
            Seat::Follow(answer) => {
                // No deadline of its own: each question has one, and after three that fail nobody is asked. The time in
                // this queue says nothing about the store.
                let mut follow = Follow { shared: self, ask, answer };
                (&mut follow.answer).await.unwrap_or(Err(StoreFailure::Timeout))
            }
            Seat::Full => Err(StoreFailure::Overloaded),
        }
    }

    /// The decision of a caller who asks for itself.
    async fn lead(self: Arc<Self>, ask: Arc<Ask>) -> Result<Grant, StoreFailure> {
        self.decide(&ask, 1).await
    }

    /// One decision of the server for up to `want` calls.
    async fn decide(&self, ask: &Ask, want: u16) -> Result<Grant, StoreFailure> {
        let sent = self.refusals.sent(self.clock.now());
        let answer = self.server.ask(&self.server.scripts.admit(ask, want, None)).await?;
        let grant = Grant::read(&answer, ask.buckets.len()).ok_or(StoreFailure::Refused)?;
        self.refusals.remember(ask, &grant, sent, self.clock.now());
        Ok(grant)
    }

    /// Answers everybody who waits for a question, until nobody does.
    async fn drive(self: Arc<Self>, ask: Arc<Ask>) {
        let mut pilot = Pilot { shared: &self, ask: &ask, done: false };
        while let Some(waiters) = self.flights.next(&ask) {
            if let Some(refusal) = self.refusals.find(&ask, self.clock.now()) {
                waiters.into_iter().for_each(|waiter| drop(waiter.send(Ok(refusal.clone()))));
                continue;
            }
            let want = u16::try_from(waiters.len()).unwrap_or(u16::MAX);
            match self.decide(&ask, want).await {
                Err(failure) => waiters.into_iter().for_each(|waiter| drop(waiter.send(Err(failure)))),
                Ok(grant) => {
                    let mut place = 0;
                    for waiter in waiters {
                        // Whoever has given up takes nobody's place.
                        place += u32::from(waiter.send(Ok(grant.verdict(&ask, place))).is_ok());
                    }
                    if place < grant.granted {
                        // Tokens that cannot be given back are lost, which is the safe side.
                        let _ = self.give_back(&ask, &grant.unused(place), grant.now).await;
                    }
                }
            }
        }
        pilot.done = true;
    }

    /// Gives back what a number of calls have paid to each bucket.
    async fn give_back(&self, ask: &Ask, counts: &[u32], paid_at: Micros) -> Result<(), StoreFailure> {
        let paid = ask.buckets.iter().zip(counts).filter(|(_, count)| **count > 0);
        let change = |(bucket, count): (&RemoteBucket, &u32)| {
            let cost = bucket.cost.saturating_mul(*count);
            Change {
                bucket: RemoteBucket { cost, ..bucket.clone() },
                tokens: -i64::from(cost),
                paid_at: Some(paid_at),
            }
        };
        let changes: Vec<Change> = paid.map(change).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.change(&changes).await
    }

    async fn change(&self, changes: &[Change]) -> Result<(), StoreFailure> {
        let buckets = || changes.iter().map(|change| &change.bucket);
        self.refusals.forget(buckets());
        let outcome = self.server.ask(&self.server.scripts.change(changes, None)).await;
        self.refusals.forget(buckets());
        outcome.map(drop)
    }
}

/// A caller who asks for itself. If it gives up, its question is still asked to the end, so that what was paid can be
/// given back; and those who wait meanwhile get a driver.
struct Lead {
    shared: Arc<Shared>,
    ask: Arc<Ask>,
    flight: Option<BoxFuture<'static, Result<Grant, StoreFailure>>>,
}

impl Lead {
    async fn land(&mut self) -> Result<Grant, StoreFailure> {
        let Some(flight) = &mut self.flight else { return Err(StoreFailure::Timeout) };
        let grant = flight.await;
        self.flight = None;
        grant
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let (shared, ask) = (self.shared.clone(), self.ask.clone());
        match self.flight.take() {
            Some(flight) => {
                self.shared.runtime.spawn(async move {
                    if let Ok(grant) = flight.await {
                        let _ = shared.give_back(&ask, &grant.unused(0), grant.now).await;
                    }
                    shared.drive(ask).await;
                });
            }
            None if shared.flights.land(&ask) => drop(self.shared.runtime.spawn(shared.drive(ask))),
            None => {}
        }
    }
}

/// A caller who waits for an answer. If it gives up when the answer has already been sent, what was paid is given back.
struct Follow<'a> {
    shared: &'a Arc<Shared>,
    ask: &'a Ask,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Follow<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(verdict)) = self.answer.try_recv()
            && verdict.admitted
        {
            let (shared, ask) = (self.shared.clone(), self.ask.clone());
            let counts: SmallVec<[u32; 4]> = verdict.pays.iter().map(|pays| u32::from(*pays)).collect();
            self.shared.runtime.spawn(async move { shared.give_back(&ask, &counts, verdict.at).await });
        }
    }
}

/// A driver. If it is ended early, nobody waits for it.
struct Pilot<'a> {
    shared: &'a Shared,
    ask: &'a Ask,
    done: bool,
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.flights.abandon(self.ask);
        }
    }
}

impl RemoteStore for RedisStore {
    fn admit<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<RemoteVerdict, StoreFailure>> {
        Box::pin(self.shared.admit(ask))
    }

    fn known_refusal(&self, ask: &Ask) -> Option<RemoteVerdict> {
        self.shared.refusals.find(ask, self.shared.clock.now())
    }

    fn change<'a>(&'a self, changes: &'a [Change]) -> BoxFuture<'a, Result<(), StoreFailure>> {
        Box::pin(self.shared.change(changes))
    }

    fn peek<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<SmallVec<[i64; 4]>, StoreFailure>> {
        Box::pin(async move {
            if ask.buckets.is_empty() {
                return Ok(SmallVec::new());
            }
            let server = &self.shared.server;
            let answer = server.ask(&server.scripts.admit(ask, 0, None)).await?;
            let grant = Grant::read(&answer, ask.buckets.len()).ok_or(StoreFailure::Refused)?;
            Ok(grant.levels)
        })
    }

    fn take<'a>(
        &'a self,
        bucket: &'a RemoteBucket,
        order: Order,
    ) -> BoxFuture<'a, Result<Taken, StoreFailure>> {
        Box::pin(async move {
            let server = &self.shared.server;
            let answer = server.ask(&server.scripts.take(bucket, order, None)).await?;
            read_taken(&answer).ok_or(StoreFailure::Refused)
        })
    }

    fn replica_count(&self) -> Option<u32> {
        Some(self.shared.server.replica_count.load(Ordering::Relaxed)).filter(|count| *count > 0)
    }

    fn key_age(&self) -> Option<Duration> {
        self.shared.server.key_age.get()
    }

    fn blocks(&self) -> Option<Arc<Blocks>> {
        Some(self.shared.server.blocks.clone())
    }

    fn block<'a>(
        &'a self,
        name: &'a str,
        lasts: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreFailure>> {
        Box::pin(async move {
            let server = &self.shared.server;
            let answer = server.ask(&server.scripts.block(name, lasts)).await?;
            let is_set = answer == redis::Value::Int(1);
            // This replica does not wait for its next heartbeat.
            Ok(is_set && server.blocks.set(name, lasts))
        })
    }

    fn warnings(&self) -> Vec<String> {
        self.shared.server.warnings.lock().clone()
    }

    fn is_available(&self) -> bool {
        self.shared.server.is_available()
    }
}
