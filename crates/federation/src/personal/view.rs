//! One view: its part of each backend, looked over now and then, and the catalogue that comes of it.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use vmcp_domain::{
    Audience, BackendId, CallContext, Caller, Change, Error, Inventory, Origin, ResourceUri, Scope, Secret,
    User,
};

use super::{Key, locked};
use crate::catalogue::{Catalogue, Part};
use crate::refresh::SPACING;
use crate::shared::Shared;

/// What some callers see.
pub(super) struct View {
    user: User,
    pub(super) key: Key,
    pub(super) state: Mutex<State>,
    /// How many of its backends have neither answered nor failed yet.
    pub(super) unsettled: watch::Sender<usize>,
}

pub(super) struct State {
    pub(super) token: Secret,
    pub(super) slots: Vec<Slot>,
    catalogue: Option<Arc<Catalogue>>,
    /// The shared catalogue that it was built over, as long as no part has changed since.
    base: Option<Arc<Catalogue>>,
    pub(super) used: u64,
}

/// One backend's part of a view.
#[derive(Default)]
pub(super) struct Slot {
    inventory: Option<Arc<Inventory>>,
    pub(super) present: bool,
    /// Why the last look brought nothing.
    refused: Option<Error>,
    failures: u32,
    looked: Option<Instant>,
    is_looking: bool,
    /// Something changed since the last look began.
    is_stale: bool,
}

impl View {
    pub(super) fn new(user: User, token: Secret, key: Key) -> Arc<Self> {
        let slots = key.iter().map(|_| Slot::default()).collect();
        let unsettled = watch::Sender::new(key.iter().flatten().count());
        let state = State { token, slots, catalogue: None, base: None, used: 0 };
        Arc::new(Self { user, key, state: Mutex::new(state), unsettled })
    }

    /// Begins to ask every backend that has not been asked for as long as health checks are apart.
    pub(super) fn look_where_due(self: &Arc<Self>, shared: &Arc<Shared>) {
        let interval = shared.health.interval;
        for index in 0..self.key.len() {
            let due = locked(&self.state)
                .slots
                .get(index)
                .is_some_and(|slot| slot.looked.is_none_or(|looked| looked.elapsed() >= interval));
            if due {
                self.look(shared, index);
            }
        }
    }

    pub(super) fn changed(self: &Arc<Self>, shared: &Arc<Shared>, index: usize, is_connected: bool) {
        {
            let mut state = locked(&self.state);
            let Some(slot) = state.slots.get_mut(index) else { return };
            // A line that was made in order to look says nothing new.
            if is_connected && slot.is_looking {
                return;
            }
            slot.is_stale = true;
        }
        self.look(shared, index);
    }

    pub(super) fn resource_updated(&self, shared: &Arc<Shared>, place: usize, uri: &ResourceUri) {
        let (catalogue, _) = self.catalogue(shared);
        let backend = shared.members.get(place).map(|member| member.backend.id());
        let scope = shared.personal.places.iter().position(|one| *one == place);
        let scope = scope.and_then(|index| self.key.get(index).copied().flatten()).map(Scope::Caller);
        let follows = scope.is_some_and(|scope| shared.follows.cover(place, scope, uri));
        if follows || catalogue.resource_backend(uri) == backend {
            shared.announce(&Change::Resource(uri.clone()), Audience::User(&self.user));
        }
    }

    /// Asks one backend, on a task of its own, unless that is being done.
    fn look(self: &Arc<Self>, shared: &Arc<Shared>, index: usize) {
        let has_scope = self.key.get(index).is_some_and(Option::is_some);
        let begins = has_scope
            && locked(&self.state)
                .slots
                .get_mut(index)
                .is_some_and(|slot| !std::mem::replace(&mut slot.is_looking, true));
        if !begins {
            return;
        }
        let (view, federation) = (self.clone(), Arc::downgrade(shared));
        tokio::spawn(async move {
            loop {
                let Some(shared) = federation.upgrade() else { return };
                view.look_once(&shared, index).await;
                drop(shared);
                sleep(SPACING).await;
                let mut state = locked(&view.state);
                let Some(slot) = state.slots.get_mut(index) else { return };
                if !slot.is_stale {
                    slot.is_looking = false;
                    return;
                }
            }
        });
    }

    async fn look_once(&self, shared: &Arc<Shared>, index: usize) {
        let Some(place) = shared.personal.places.get(index).copied() else { return };
        let Some(member) = shared.members.get(place) else { return };
        let mut ctx = CallContext::bare(Caller::Known(Arc::clone(&self.user.0)), Origin::Gateway);
        let is_first = {
            let mut state = locked(&self.state);
            ctx.token = Some(state.token.clone());
            let Some(slot) = state.slots.get_mut(index) else { return };
            slot.is_stale = false;
            slot.looked.is_none()
        };
        let asking = member.backend.inventory(&ctx);
        // The first look waits as long as connecting may take; later ones are health checks.
        let taken = if is_first {
            asking.await
        } else {
            timeout(shared.health.timeout, asking).await.unwrap_or(Err(Error::DeadlineExceeded))
        };
        let inventory = taken.map(|inventory| shared.personal.share(place, inventory));
        {
            let mut state = locked(&self.state);
            let Some(slot) = state.slots.get_mut(index) else { return };
            slot.take(inventory, shared.health.unhealthy_threshold, member.backend.id());
            state.base = None;
        }
        let (_, changes) = self.catalogue(shared);
        if is_first {
            self.unsettled.send_modify(|count| *count = count.saturating_sub(1));
        } else {
            for change in &changes {
                shared.announce(change, Audience::User(&self.user));
            }
        }
    }

    /// Why the caller sees nothing of the backend at `index`, if it could not be asked.
    pub(super) fn refused(&self, index: usize) -> Option<Error> {
        let state = locked(&self.state);
        state.slots.get(index).filter(|slot| !slot.present).and_then(|slot| slot.refused.clone())
    }

    /// Its part of each backend that has answered.
    pub(super) fn parts(&self, shared: &Shared) -> Vec<(usize, Part)> {
        locked(&self.state).parts(shared)
    }

    /// The catalogue as it is now, and what changed since it was last asked for.
    pub(super) fn catalogue(&self, shared: &Shared) -> (Arc<Catalogue>, Vec<Change>) {
        let base = shared.catalogue();
        let mut state = locked(&self.state);
        if let (Some(catalogue), Some(over)) = (&state.catalogue, &state.base)
            && Arc::ptr_eq(over, &base)
        {
            return (catalogue.clone(), Vec::new());
        }
        let own = state.parts(shared);
        if own.is_empty() {
            return (base, Vec::new());
        }
        let earlier = state.catalogue.clone();
        let built = shared.personal.build(shared, own, earlier.as_deref());
        let changes = match &earlier {
            Some(earlier) if !Arc::ptr_eq(earlier, &built.catalogue) => {
                built.catalogue.changes_since(earlier)
            }
            Some(_) | None => Vec::new(),
        };
        state.base = Some(built.base);
        state.catalogue = Some(built.catalogue.clone());
        (built.catalogue, changes)
    }
}

impl State {
    fn parts(&self, shared: &Shared) -> Vec<(usize, Part)> {
        let parts = self.slots.iter().zip(&shared.personal.places).filter_map(|(slot, place)| {
            let backend = shared.members.get(*place)?.backend.id().clone();
            let part = Part { backend, inventory: slot.inventory.clone()?, present: slot.present };
            Some((*place, part))
        });
        parts.collect()
    }
}

impl Slot {
    /// Takes what a look has brought.
    fn take(
        &mut self,
        inventory: Result<Arc<Inventory>, Error>,
        unhealthy_threshold: u32,
        backend: &BackendId,
    ) {
        self.looked = Some(Instant::now());
        match inventory {
            Ok(inventory) => {
                (self.inventory, self.present, self.failures) = (Some(inventory), true, 0);
                self.refused = None;
            }
            // Whom the backend does not let in any more sees nothing of it from now on.
            Err(Error::Denied) => {
                (self.present, self.failures) = (false, 0);
                self.refused = Some(Error::Denied);
            }
            Err(error) => {
                let cause = error.cause().map_or("", |cause| cause.for_log());
                tracing::debug!(%backend, error = %error, cause, "backend not listed for a caller");
                self.failures = self.failures.saturating_add(1);
                if self.failures >= unhealthy_threshold {
                    self.present = false;
                }
                let cause = error.cause().cloned().unwrap_or_default();
                self.refused =
                    Some(Error::BackendUnavailable { backend: backend.clone(), cause, was_read: false });
            }
        }
    }
}
