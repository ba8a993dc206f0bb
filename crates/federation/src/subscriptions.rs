//! Resources that clients follow: one subscription at the backend for each, however many follow it, and none when the
//! last has gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use vmcp_domain::{
    Backend, BackendUri, CallContext, CallOrigin, Error, IsolationScope, ResourceUri, SilentClient,
    SubscriptionGuard,
};

/// What is followed: at which backend, as whom, and which resource.
type SubscriptionKey = (usize, IsolationScope, ResourceUri);

/// Everything that is followed.
#[derive(Default)]
pub(crate) struct SubscriptionTable(Arc<Mutex<HashMap<SubscriptionKey, Arc<SubscriptionState>>>>);

struct SubscriptionState {
    subscribers: AtomicUsize,
    /// Whether the backend has been asked. Held while it is asked or told otherwise, so that the two keep their order.
    is_subscribed: tokio::sync::Mutex<bool>,
}

/// One follower.
struct Subscriber {
    table: Arc<Mutex<HashMap<SubscriptionKey, Arc<SubscriptionState>>>>,
    key: SubscriptionKey,
    /// What the backend was asked to tell of.
    backend_uri: BackendUri,
    state: Arc<SubscriptionState>,
    backend: Arc<dyn Backend>,
    ctx: CallContext,
}

fn lock(
    table: &Mutex<HashMap<SubscriptionKey, Arc<SubscriptionState>>>,
) -> MutexGuard<'_, HashMap<SubscriptionKey, Arc<SubscriptionState>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SubscriptionTable {
    /// Follows a resource of the backend at `place` on behalf of a caller.
    pub(crate) async fn subscribe(
        &self,
        place: usize,
        backend: &Arc<dyn Backend>,
        ctx: &CallContext,
        uri: ResourceUri,
        spelling: BackendUri,
    ) -> Result<SubscriptionGuard, Error> {
        let key = (place, backend.scope(ctx)?, uri);
        let slot = {
            let mut table = lock(&self.0);
            let fresh = || {
                Arc::new(SubscriptionState {
                    subscribers: AtomicUsize::new(0),
                    is_subscribed: tokio::sync::Mutex::new(false),
                })
            };
            let slot = table.entry(key.clone()).or_insert_with(fresh);
            slot.subscribers.fetch_add(1, Ordering::Relaxed);
            slot.clone()
        };
        let mut own = CallContext::bare(ctx.caller.clone(), CallOrigin::Gateway);
        own.token.clone_from(&ctx.token);
        if let Some(client) = ctx.client.client_key() {
            own.client = Arc::new(SilentClient::for_client(client));
        }
        // From here on dropping it undoes what has been done.
        let (table, backend) = (self.0.clone(), backend.clone());
        let follower = Subscriber { table, key, backend_uri: spelling, state: slot, backend, ctx: own };
        let mut asked = follower.state.is_subscribed.lock().await;
        if !*asked {
            follower.backend.subscribe(ctx, follower.backend_uri.clone()).await?;
            *asked = true;
        }
        drop(asked);
        Ok(Box::new(follower))
    }

    /// True when somebody follows this resource of a backend, or one that it is a part of.
    pub(crate) fn has_subscriber(&self, place: usize, scope: IsolationScope, uri: &ResourceUri) -> bool {
        let table = lock(&self.0);
        uri.with_parents().any(|uri| table.contains_key(&(place, scope, uri)))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.state.subscribers.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let (table, key, slot) = (self.table.clone(), self.key.clone(), self.state.clone());
        let (backend, ctx, spelling) = (self.backend.clone(), self.ctx.clone(), self.backend_uri.clone());
        let leaving = async move {
            let mut asked = slot.is_subscribed.lock().await;
            // Somebody may have come meanwhile.
            if slot.subscribers.load(Ordering::Acquire) > 0 {
                return;
            }
            if std::mem::take(&mut *asked)
                && let Err(error) = backend.unsubscribe(&ctx, spelling).await
            {
                tracing::debug!(backend = %backend.id(), %error, "a subscription could not be taken back");
            }
            let mut table = lock(&table);
            if slot.subscribers.load(Ordering::Acquire) == 0
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
