//! The store's part of limits on calls in flight. `vmcp-ratelimit` decides which call holds which slot; every
//! request is one script.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use vmcp_domain::BoxFuture;
use vmcp_ratelimit::{
    AdmitRequest, RemoteSlotLimit, RemoteVerdict, SlotReport, SlotRequest, SlotStore, SlotVerdict,
    StoreConnection, StoreFailure,
};
use vmcp_timing::Clock as _;

use super::{RedisStore, StoreInner};
use crate::script::{AdmitGrant, read_acquire, read_counts};

/// The server's reply to a call that asks for slots.
type AcquireResult = Result<(SlotVerdict, AdmitGrant), StoreFailure>;

impl StoreInner {
    async fn acquire(self: Arc<Self>, request: SlotRequest, buckets: AdmitRequest) -> AcquireResult {
        let sent = self.refusal_cache.mark_sent(self.clock.now());
        let answer = self.server.call(&self.server.scripts.acquire(&request, &buckets)).await?;
        let read = read_acquire(&answer, buckets.buckets.len(), request.limits.len());
        let (verdict, grant) = read.ok_or(StoreFailure::Refused)?;
        self.refusal_cache.insert(&buckets, &grant, sent, self.clock.now());
        Ok((verdict, grant))
    }
}

/// A call that asks for slots. If it is cancelled, its request still runs to the end, so that what was paid
/// can be refunded.
struct AcquireGuard {
    store: Arc<StoreInner>,
    buckets: AdmitRequest,
    acquisition: Option<BoxFuture<'static, AcquireResult>>,
}

impl AcquireGuard {
    async fn finish(&mut self) -> AcquireResult {
        let Some(acquisition) = &mut self.acquisition else { return Err(StoreFailure::Timeout) };
        let answer = acquisition.await;
        self.acquisition = None;
        answer
    }
}

impl Drop for AcquireGuard {
    fn drop(&mut self) {
        let Some(acquisition) = self.acquisition.take() else { return };
        let (shared, buckets) = (self.store.clone(), self.buckets.clone());
        self.store.runtime.spawn(async move {
            if let Ok((_, grant)) = acquisition.await {
                let _ = shared.refund(&buckets, &grant.unused_counts(0), grant.now).await;
            }
        });
    }
}

impl SlotStore for RedisStore {
    fn acquire<'a>(
        &'a self,
        request: &'a SlotRequest,
        buckets: &'a AdmitRequest,
    ) -> BoxFuture<'a, Result<(SlotVerdict, RemoteVerdict), StoreFailure>> {
        let (shared, request, buckets) = (self.inner.clone(), request.clone(), buckets.clone());
        Box::pin(async move {
            let acquisition = Box::pin(shared.clone().acquire(request, buckets.clone()));
            let mut entering = AcquireGuard { store: shared, buckets, acquisition: Some(acquisition) };
            let (verdict, grant) = entering.finish().await?;
            Ok((verdict, grant.verdict(&entering.buckets, 0)))
        })
    }

    fn report<'a>(
        &'a self,
        partition: Option<&'a str>,
        reports: &'a [SlotReport],
        lease: Duration,
    ) -> BoxFuture<'a, Result<(), StoreFailure>> {
        Box::pin(async move {
            let server = &self.inner.server;
            server.call(&server.scripts.report(partition, reports, lease)).await.map(drop)
        })
    }

    fn count<'a>(
        &'a self,
        slots: &'a [RemoteSlotLimit],
    ) -> BoxFuture<'a, Result<SmallVec<[u32; 2]>, StoreFailure>> {
        Box::pin(async move {
            let server = &self.inner.server;
            let answer = server.call(&server.scripts.count(slots)).await?;
            read_counts(&answer, slots.len()).ok_or(StoreFailure::Refused)
        })
    }

    fn connection(&self) -> StoreConnection {
        self.inner.server.store_connection()
    }
}
