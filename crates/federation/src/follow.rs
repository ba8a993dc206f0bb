//! Resources that clients follow: one subscription at the backend for each, however many follow it, and none when the
//! last has gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use vmcp_domain::{
    Backend, BackendUri, CallContext, Error, Following, Origin, ResourceUri, Scope, SilentClient,
};

/// What is followed: at which backend, as whom, and which resource.
type Key = (usize, Scope, ResourceUri);

/// Everything that is followed.
#[derive(Default)]
pub(crate) struct Follows(Arc<Mutex<HashMap<Key, Arc<Slot>>>>);

struct Slot {
    followers: AtomicUsize,
    /// Whether the backend has been asked. Held while it is asked or told otherwise, so that the two keep their order.
    asked: tokio::sync::Mutex<bool>,
}

/// One follower.
struct Follower {
    table: Arc<Mutex<HashMap<Key, Arc<Slot>>>>,
    key: Key,
    /// What the backend was asked to tell of.
    spelling: BackendUri,
    slot: Arc<Slot>,
    backend: Arc<dyn Backend>,
    ctx: CallContext,
}

fn locked(table: &Mutex<HashMap<Key, Arc<Slot>>>) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follows {
    /// Follows a resource of the backend at `place` on behalf of a caller.
    pub(crate) async fn follow(
        &self,
        place: usize,
        backend: &Arc<dyn Backend>,
        ctx: &CallContext,
        uri: ResourceUri,
        spelling: BackendUri,
    ) -> Result<Following, Error> {
        let key = (place, backend.scope(ctx)?, uri);
        let slot = {
            let mut table = locked(&self.0);
            let fresh =
                || Arc::new(Slot { followers: AtomicUsize::new(0), asked: tokio::sync::Mutex::new(false) });
            let slot = table.entry(key.clone()).or_insert_with(fresh);
            slot.followers.fetch_add(1, Ordering::Relaxed);
            slot.clone()
        };
        let mut own = CallContext::bare(ctx.caller.clone(), Origin::Gateway);
        own.token.clone_from(&ctx.token);
        if let Some(client) = ctx.client.client_key() {
            own.client = Arc::new(SilentClient::of(client));
        }
        // From here on dropping it undoes what has been done.
        let (table, backend) = (self.0.clone(), backend.clone());
        let follower = Follower { table, key, spelling, slot, backend, ctx: own };
        let mut asked = follower.slot.asked.lock().await;
        if !*asked {
            follower.backend.subscribe(ctx, follower.spelling.clone()).await?;
            *asked = true;
        }
        drop(asked);
        Ok(Box::new(follower))
    }

    /// True when somebody follows this resource of a backend, or one that it is a part of.
    pub(crate) fn cover(&self, place: usize, scope: Scope, uri: &ResourceUri) -> bool {
        let table = locked(&self.0);
        uri.with_parents().any(|uri| table.contains_key(&(place, scope, uri)))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.slot.followers.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let (table, key, slot) = (self.table.clone(), self.key.clone(), self.slot.clone());
        let (backend, ctx, spelling) = (self.backend.clone(), self.ctx.clone(), self.spelling.clone());
        let leaving = async move {
            let mut asked = slot.asked.lock().await;
            // Somebody may have come meanwhile.
            if slot.followers.load(Ordering::Acquire) > 0 {
                return;
            }
            if std::mem::take(&mut *asked)
                && let Err(error) = backend.unsubscribe(&ctx, spelling).await
            {
                tracing::debug!(backend = %backend.id(), %error, "a subscription could not be taken back");
            }
            let mut table = locked(&table);
            if slot.followers.load(Ordering::Acquire) == 0
                && table.get(&key).is_some_and(|known| Arc::ptr_eq(known, &slot))
            {
                table.remove(&key);
            }
        };
        // Outside a runtime the process is ending, and the backends with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(leaving);
        }
    }
}

#[cfg(test)]
mod tests;
