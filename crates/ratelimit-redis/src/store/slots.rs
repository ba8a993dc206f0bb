//! The store's side of bounds on calls in flight. Who holds what is `vmcp-ratelimit`'s; every question is one script.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use vmcp_domain::BoxFuture;
use vmcp_ratelimit::{
    Ask, Clock as _, Connection, RemoteSlots, RemoteVerdict, SlotAsk, SlotReport, SlotStore, SlotVerdict,
    StoreFailure,
};

use super::{RedisStore, Shared};
use crate::script::{Grant, read_counts, read_entered};

/// What the server says to a call that asks for slots.
type Answered = Result<(SlotVerdict, Grant), StoreFailure>;

impl Shared {
    async fn enter(self: Arc<Self>, ask: SlotAsk, buckets: Ask) -> Answered {
        let sent = self.refusals.sent(self.clock.now());
        let answer = self.server.ask(&self.server.scripts.enter(&ask, &buckets)).await?;
        let read = read_entered(&answer, buckets.buckets.len(), ask.slots.len());
        let (verdict, grant) = read.ok_or(StoreFailure::Refused)?;
        self.refusals.remember(&buckets, &grant, sent, self.clock.now());
        Ok((verdict, grant))
    }
}

/// A call that asks for slots. If it gives up, its question is still asked to the end, so that what was paid can be given back.
struct Entering {
    shared: Arc<Shared>,
    buckets: Ask,
    question: Option<BoxFuture<'static, Answered>>,
}

impl Entering {
    async fn answer(&mut self) -> Answered {
        let Some(question) = &mut self.question else { return Err(StoreFailure::Timeout) };
        let answer = question.await;
        self.question = None;
        answer
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        let Some(question) = self.question.take() else { return };
        let (shared, buckets) = (self.shared.clone(), self.buckets.clone());
        self.shared.runtime.spawn(async move {
            if let Ok((_, grant)) = question.await {
                let _ = shared.give_back(&buckets, &grant.unused(0), grant.now).await;
            }
        });
    }
}

impl SlotStore for RedisStore {
    fn enter<'a>(
        &'a self,
        ask: &'a SlotAsk,
        buckets: &'a Ask,
    ) -> BoxFuture<'a, Result<(SlotVerdict, RemoteVerdict), StoreFailure>> {
        let (shared, ask, buckets) = (self.shared.clone(), ask.clone(), buckets.clone());
        Box::pin(async move {
            let question = Box::pin(shared.clone().enter(ask, buckets.clone()));
            let mut entering = Entering { shared, buckets, question: Some(question) };
            let (verdict, grant) = entering.answer().await?;
            Ok((verdict, grant.verdict(&entering.buckets, 0)))
        })
    }

    fn report<'a>(
        &'a self,
        home: Option<&'a str>,
        reports: &'a [SlotReport],
        lease: Duration,
    ) -> BoxFuture<'a, Result<(), StoreFailure>> {
        Box::pin(async move {
            let server = &self.shared.server;
            server.ask(&server.scripts.report(home, reports, lease)).await.map(drop)
        })
    }

    fn count<'a>(
        &'a self,
        slots: &'a [RemoteSlots],
    ) -> BoxFuture<'a, Result<SmallVec<[u32; 2]>, StoreFailure>> {
        Box::pin(async move {
            let server = &self.shared.server;
            let answer = server.ask(&server.scripts.count(slots)).await?;
            read_counts(&answer, slots.len()).ok_or(StoreFailure::Refused)
        })
    }

    fn connection(&self) -> Connection {
        self.shared.server.connection()
    }
}
