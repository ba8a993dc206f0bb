//! Implements `GatewayInfo` for the federation: its overview, change listeners and subscriptions to
//! resources.

use std::sync::Weak;

use vmcp_domain::{
    CallContext, Caller, ChangeListener, Error, GatewayFuture, GatewayInfo, Overview, ResourceUri,
    SubscriptionGuard,
};

use super::Federation;

impl GatewayInfo for Federation {
    fn overview(&self, _caller: &Caller) -> Overview {
        self.overview_for(None)
    }

    fn has_complete_lists(&self) -> bool {
        self.state.is_discovered()
    }

    fn add_listener(&self, listener: Weak<dyn ChangeListener>) {
        self.state.listeners.lock().push(listener);
    }

    fn can_subscribe(&self, _caller: &Caller, _uri: &ResourceUri) -> bool {
        true
    }

    fn admit_listen<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn subscribe<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: ResourceUri,
    ) -> GatewayFuture<'a, SubscriptionGuard> {
        Box::pin(async move {
            let catalogue = self.catalogue(ctx).await;
            let served =
                catalogue.resolve_resource(&uri).map(|(backend, spelling)| (backend.clone(), spelling));
            drop(catalogue);
            let member = served.and_then(|(backend, spelling)| {
                let place = self.state.backend_indices.get(&backend).copied()?;
                Some((place, self.state.backends.get(place)?, spelling))
            });
            let (place, member, spelling) = member.ok_or_else(|| Error::UnknownResource(uri.clone()))?;
            self.state.subscriptions.subscribe(place, &member.backend, ctx, uri, spelling).await
        })
    }
}
