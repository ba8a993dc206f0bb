//! The store's side of bounds on calls in flight. Who holds what is `vmcp-ratelimit`'s; every question is one script.

use std::time::Duration;

use smallvec::SmallVec;
use vmcp_domain::BoxFuture;
use vmcp_ratelimit::{Connection, RemoteSlots, SlotAsk, SlotReport, SlotStore, SlotVerdict, StoreFailure};

use super::RedisStore;
use crate::script::{read_counts, read_entered};

impl SlotStore for RedisStore {
    fn enter<'a>(&'a self, ask: &'a SlotAsk) -> BoxFuture<'a, Result<SlotVerdict, StoreFailure>> {
        Box::pin(async move {
            let server = &self.shared.server;
            let answer = server.ask(&server.scripts.enter(ask)).await?;
            read_entered(&answer, ask.slots.len()).ok_or(StoreFailure::Refused)
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
