//! The store: decisions, alone or coalesced, and all other requests of a replica to the server.

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
    Adjustment, AdmitRequest, Blocks, RemoteBucket, RemoteStore, RemoteVerdict, StoreFailure, TakeGrant,
    TakeRequest,
};
use vmcp_timing::{Clock as _, Micros, SystemClock};

use crate::coalescer::{AdmitResult, Coalescer, Role};
use crate::policy::RedisPolicy;
use crate::refusal_cache::RefusalCache;
use crate::script::{AdmitGrant, read_take_grant};
use crate::server::Server;
use crate::supervisor;

/// A store over Redis or Valkey. Dropping it ends its background tasks.
pub struct RedisStore {
    inner: Arc<StoreInner>,
    supervisor: JoinHandle<()>,
}

struct StoreInner {
    server: Arc<Server>,
    coalescer: Coalescer,
    refusal_cache: RefusalCache,
    /// Only measures elapsed time here.
    clock: SystemClock,
    runtime: Handle,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore")
            .field("target", self.inner.server.policy.target())
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Starts a store and returns at once, whether the server answers or not: a background task connects.
    ///
    /// # Panics
    /// Outside a tokio runtime with timers and sockets.
    #[must_use]
    pub fn start(policy: RedisPolicy) -> Self {
        if policy.is_tls() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // The client library uses the provider of the process. If another thread has installed one in the
            // meantime, that one is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let server = Arc::new(Server::new(policy));
        let runtime = Handle::current();
        let keeper = runtime.spawn(supervisor::run(server.clone()));
        let clock = SystemClock::start();
        let shared = StoreInner {
            server,
            coalescer: Coalescer::new(),
            refusal_cache: RefusalCache::new(),
            clock,
            runtime,
        };
        Self { inner: Arc::new(shared), supervisor: keeper }
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl StoreInner {
    async fn admit(self: &Arc<Self>, request: &AdmitRequest) -> AdmitResult {
        if request.buckets.is_empty() {
            let at = Micros::default();
            return Ok(RemoteVerdict { admitted: true, levels: SmallVec::new(), pays: SmallVec::new(), at });
        }
        if self.server.breaker.is_open() {
            return Err(StoreFailure::CircuitOpen);
        }
        if let Some(refusal) = self.refusal_cache.find(request, self.clock.now()) {
            return Ok(refusal);
        }
        match self.coalescer.join(request) {
            Role::Leader(request) => {
                let decision = Box::pin(self.clone().decide_as_leader(request.clone()));
                let mut leader = LeaderGuard { store: self.clone(), request, decision: Some(decision) };
                let grant = leader.finish().await;
                grant.map(|grant| grant.verdict(&leader.request, 0))
            }
            Role::Follower(answer) => {
                // A follower has no deadline of its own: each request has one, and after three failures the
                // circuit opens. The time in this queue says nothing about the store.
                let mut follower = FollowerGuard { store: self, request, receiver: answer };
                (&mut follower.receiver).await.unwrap_or(Err(StoreFailure::Timeout))
            }
            Role::Full => Err(StoreFailure::Overloaded),
        }
    }

    /// The decision of a leader, for its own call alone.
    async fn decide_as_leader(
        self: Arc<Self>,
        request: Arc<AdmitRequest>,
    ) -> Result<AdmitGrant, StoreFailure> {
        self.decide(&request, 1).await
    }

    /// One decision of the server for up to `want` calls.
    async fn decide(&self, request: &AdmitRequest, want: u16) -> Result<AdmitGrant, StoreFailure> {
        let sent = self.refusal_cache.mark_sent(self.clock.now());
        let answer = self.server.call(&self.server.scripts.admit(request, want, None)).await?;
        let grant = AdmitGrant::read(&answer, request.buckets.len()).ok_or(StoreFailure::Refused)?;
        self.refusal_cache.insert(request, &grant, sent, self.clock.now());
        Ok(grant)
    }

    /// Answers all callers that wait for a request, until none waits.
    async fn drive(self: Arc<Self>, request: Arc<AdmitRequest>) {
        let mut driver = DriverGuard { store: &self, request: &request, is_done: false };
        while let Some(senders) = self.coalescer.next_batch(&request) {
            if let Some(refusal) = self.refusal_cache.find(&request, self.clock.now()) {
                senders.into_iter().for_each(|sender| drop(sender.send(Ok(refusal.clone()))));
                continue;
            }
            let want = u16::try_from(senders.len()).unwrap_or(u16::MAX);
            match self.decide(&request, want).await {
                Err(failure) => senders.into_iter().for_each(|sender| drop(sender.send(Err(failure)))),
                Ok(grant) => {
                    let mut index = 0;
                    for sender in senders {
                        // A cancelled caller uses up none of the granted calls.
                        index += u32::from(sender.send(Ok(grant.verdict(&request, index))).is_ok());
                    }
                    if index < grant.granted_count {
                        // Tokens that cannot be refunded are lost, which is the safe side.
                        let _ = self.refund(&request, &grant.unused_counts(index), grant.now).await;
                    }
                }
            }
        }
        driver.is_done = true;
    }

    /// Refunds what a number of calls have paid to each bucket.
    async fn refund(
        &self,
        request: &AdmitRequest,
        counts: &[u32],
        paid_at: Micros,
    ) -> Result<(), StoreFailure> {
        let paid = request.buckets.iter().zip(counts).filter(|(_, count)| **count > 0);
        let change = |(bucket, count): (&RemoteBucket, &u32)| {
            let cost = bucket.cost.saturating_mul(*count);
            Adjustment {
                bucket: RemoteBucket { cost, ..bucket.clone() },
                tokens: -i64::from(cost),
                paid_at: Some(paid_at),
            }
        };
        let changes: Vec<Adjustment> = paid.map(change).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.adjust(&changes).await
    }

    async fn adjust(&self, changes: &[Adjustment]) -> Result<(), StoreFailure> {
        let buckets = || changes.iter().map(|change| &change.bucket);
        self.refusal_cache.invalidate(buckets());
        let outcome = self.server.call(&self.server.scripts.adjust(changes, None)).await;
        self.refusal_cache.invalidate(buckets());
        outcome.map(drop)
    }
}

/// A leader. If it is cancelled, its request still runs to the end, so that what was paid can be refunded;
/// and the callers that wait meanwhile get a driver.
struct LeaderGuard {
    store: Arc<StoreInner>,
    request: Arc<AdmitRequest>,
    decision: Option<BoxFuture<'static, Result<AdmitGrant, StoreFailure>>>,
}

impl LeaderGuard {
    async fn finish(&mut self) -> Result<AdmitGrant, StoreFailure> {
        let Some(decision) = &mut self.decision else { return Err(StoreFailure::Timeout) };
        let grant = decision.await;
        self.decision = None;
        grant
    }
}

impl Drop for LeaderGuard {
    fn drop(&mut self) {
        let (shared, request) = (self.store.clone(), self.request.clone());
        match self.decision.take() {
            Some(decision) => {
                self.store.runtime.spawn(async move {
                    if let Ok(grant) = decision.await {
                        let _ = shared.refund(&request, &grant.unused_counts(0), grant.now).await;
                    }
                    shared.drive(request).await;
                });
            }
            None if shared.coalescer.leave(&request) => drop(self.store.runtime.spawn(shared.drive(request))),
            None => {}
        }
    }
}

/// A follower. If it is cancelled when the result has already been sent, what was paid is refunded.
struct FollowerGuard<'a> {
    store: &'a Arc<StoreInner>,
    request: &'a AdmitRequest,
    receiver: oneshot::Receiver<AdmitResult>,
}

impl Drop for FollowerGuard<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Ok(verdict)) = self.receiver.try_recv()
            && verdict.admitted
        {
            let (shared, request) = (self.store.clone(), self.request.clone());
            let counts: SmallVec<[u32; 4]> = verdict.pays.iter().map(|pays| u32::from(*pays)).collect();
            self.store.runtime.spawn(async move { shared.refund(&request, &counts, verdict.at).await });
        }
    }
}

/// A driver. If it is cancelled early, the callers that wait for it receive a failure.
struct DriverGuard<'a> {
    store: &'a StoreInner,
    request: &'a AdmitRequest,
    is_done: bool,
}

impl Drop for DriverGuard<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.store.coalescer.abandon(self.request);
        }
    }
}

impl RemoteStore for RedisStore {
    fn admit<'a>(&'a self, request: &'a AdmitRequest) -> BoxFuture<'a, Result<RemoteVerdict, StoreFailure>> {
        Box::pin(self.inner.admit(request))
    }

    fn known_refusal(&self, request: &AdmitRequest) -> Option<RemoteVerdict> {
        self.inner.refusal_cache.find(request, self.inner.clock.now())
    }

    fn adjust<'a>(&'a self, changes: &'a [Adjustment]) -> BoxFuture<'a, Result<(), StoreFailure>> {
        Box::pin(self.inner.adjust(changes))
    }

    fn peek<'a>(
        &'a self,
        request: &'a AdmitRequest,
    ) -> BoxFuture<'a, Result<SmallVec<[i64; 4]>, StoreFailure>> {
        Box::pin(async move {
            if request.buckets.is_empty() {
                return Ok(SmallVec::new());
            }
            let server = &self.inner.server;
            let answer = server.call(&server.scripts.admit(request, 0, None)).await?;
            let grant = AdmitGrant::read(&answer, request.buckets.len()).ok_or(StoreFailure::Refused)?;
            Ok(grant.levels)
        })
    }

    fn take<'a>(
        &'a self,
        bucket: &'a RemoteBucket,
        request: TakeRequest,
    ) -> BoxFuture<'a, Result<TakeGrant, StoreFailure>> {
        Box::pin(async move {
            let server = &self.inner.server;
            let answer = server.call(&server.scripts.take(bucket, request, None)).await?;
            read_take_grant(&answer).ok_or(StoreFailure::Refused)
        })
    }

    fn replica_count(&self) -> Option<u32> {
        Some(self.inner.server.replica_count.load(Ordering::Relaxed)).filter(|count| *count > 0)
    }

    fn key_age(&self) -> Option<Duration> {
        self.inner.server.key_age.get()
    }

    fn blocks(&self) -> Option<Arc<Blocks>> {
        Some(self.inner.server.blocks.clone())
    }

    fn block<'a>(
        &'a self,
        name: &'a str,
        duration: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreFailure>> {
        Box::pin(async move {
            let server = &self.inner.server;
            let answer = server.call(&server.scripts.block(name, duration)).await?;
            let is_set = answer == redis::Value::Int(1);
            // This replica applies the block at once, before its next heartbeat.
            Ok(is_set && server.blocks.set(name, duration))
        })
    }

    fn warnings(&self) -> Vec<String> {
        self.inner.server.warnings.lock().clone()
    }

    fn is_available(&self) -> bool {
        self.inner.server.is_available()
    }
}
