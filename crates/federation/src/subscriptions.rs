//! Subscriptions to resources. All subscribers of the same scope share one subscription at the backend, which
//! ends when the last subscriber is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use vmcp_domain::{
    Backend, BackendUri, CallContext, CallOrigin, Error, IsolationScope, ResourceUri, SilentClient,
    SubscriptionGuard,
};

/// The backend's index, the scope of the connection, and the resource.
type SubscriptionKey = (usize, IsolationScope, ResourceUri);

/// All current subscriptions.
#[derive(Default)]
pub(crate) struct SubscriptionTable(Arc<Mutex<HashMap<SubscriptionKey, Arc<SubscriptionState>>>>);

struct SubscriptionState {
    subscribers: AtomicUsize,
    /// Whether the subscription exists at the backend. The lock is held during the request to subscribe or to
    /// unsubscribe, so that the two requests keep their order.
    is_subscribed: tokio::sync::Mutex<bool>,
}

/// The guard of one subscriber. Dropping the last guard of a key unsubscribes at the backend.
struct Subscriber {
    table: Arc<Mutex<HashMap<SubscriptionKey, Arc<SubscriptionState>>>>,
    key: SubscriptionKey,
    /// The URI that was sent to the backend, in the backend's own spelling.
    backend_uri: BackendUri,
    state: Arc<SubscriptionState>,
    backend: Arc<dyn Backend>,
    ctx: CallContext,
}

fn lock(
    table: &Mutex<HashMap<SubscriptionKey, Arc<SubscriptionState>>>,
) -> MutexGuard<'_, HashMap<SubscriptionKey, Arc<SubscriptionState>>> {
    table.lock()
}

impl SubscriptionTable {
    /// Subscribes a caller to a resource of the backend at index `backend_index`. `backend_uri` is the resource's URI as
    /// the backend knows it.
    ///
    /// # Errors
    /// The errors of [`Backend::scope`] and [`Backend::subscribe`].
    pub(crate) async fn subscribe(
        &self,
        backend_index: usize,
        backend: &Arc<dyn Backend>,
        ctx: &CallContext,
        uri: ResourceUri,
        backend_uri: BackendUri,
    ) -> Result<SubscriptionGuard, Error> {
        let key = (backend_index, backend.scope(ctx)?, uri);
        let state = {
            let mut table = lock(&self.0);
            let fresh = || {
                Arc::new(SubscriptionState {
                    subscribers: AtomicUsize::new(0),
                    is_subscribed: tokio::sync::Mutex::new(false),
                })
            };
            let state = table.entry(key.clone()).or_insert_with(fresh);
            state.subscribers.fetch_add(1, Ordering::Relaxed);
            state.clone()
        };
        let mut own = CallContext::bare(ctx.caller.clone(), CallOrigin::Gateway);
        own.token.clone_from(&ctx.token);
        if let Some(client) = ctx.client.client_key() {
            own.client = Arc::new(SilentClient::for_client(client));
        }
        // From here on, dropping `subscriber` releases the entry and the subscription at the backend.
        let (table, backend) = (self.0.clone(), backend.clone());
        let subscriber = Subscriber { table, key, backend_uri, state, backend, ctx: own };
        let mut is_subscribed = subscriber.state.is_subscribed.lock().await;
        if !*is_subscribed {
            subscriber.backend.subscribe(ctx, subscriber.backend_uri.clone()).await?;
            *is_subscribed = true;
        }
        drop(is_subscribed);
        Ok(Box::new(subscriber))
    }

    /// True when a caller of this scope subscribes to the resource `uri` of the backend at `backend_index`, or to a
    /// parent of it.
    pub(crate) fn has_subscriber(
        &self,
        backend_index: usize,
        scope: IsolationScope,
        uri: &ResourceUri,
    ) -> bool {
        let table = lock(&self.0);
        uri.with_parents().any(|uri| table.contains_key(&(backend_index, scope, uri)))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.state.subscribers.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let (table, key, state) = (self.table.clone(), self.key.clone(), self.state.clone());
        let (backend, ctx, backend_uri) = (self.backend.clone(), self.ctx.clone(), self.backend_uri.clone());
        let unsubscribe = async move {
            let mut is_subscribed = state.is_subscribed.lock().await;
            // A new subscriber may have taken this entry while the lock was awaited.
            if state.subscribers.load(Ordering::Acquire) > 0 {
                return;
            }
            if std::mem::take(&mut *is_subscribed)
                && let Err(error) = backend.unsubscribe(&ctx, backend_uri).await
            {
                tracing::debug!(backend = %backend.id(), %error, "a subscription could not be taken back");
            }
            let mut table = lock(&table);
            if state.subscribers.load(Ordering::Acquire) == 0
                && table.get(&key).is_some_and(|known| Arc::ptr_eq(known, &state))
            {
                table.remove(&key);
            }
        };
        // Outside a runtime the process is ending, and the connections to the backends end with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(unsubscribe);
        }
    }
}

#[cfg(test)]
mod tests;
