//! Delivery of change notifications to clients. There is no queue: list changes are counted and changed
//! resources are marked once. However many changes occur, a client receives at most one pending notification
//! for each list and resource.

pub(crate) mod change_stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use vmcp_domain::{
    Caller, Change, ChangeAudience, ChangeListener, ClientKey, ResourceUri, SubscriptionGuard, User,
};

/// The maximum number of resources that all clients together may watch.
const WATCHED_RESOURCES_MAX: usize = 100_000;
/// The maximum number of resources that one client may watch.
pub(crate) const WATCHED_PER_CLIENT_MAX: usize = 256;
/// The longest URI that can be watched, in bytes.
const WATCHED_URI_BYTES_MAX: usize = 4096;

/// The number of changes of each list so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListVersions {
    tools: u64,
    resources: u64,
    prompts: u64,
}

/// The list changes that a stream is subscribed to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListChangeFilter {
    pub(crate) tools: bool,
    pub(crate) resources: bool,
    pub(crate) prompts: bool,
}

impl ListChangeFilter {
    pub(crate) const ALL: Self = Self { tools: true, resources: true, prompts: true };
}

impl ListVersions {
    fn increment(&mut self, list: &Change) {
        match list {
            Change::Tools => self.tools += 1,
            Change::Resources => self.resources += 1,
            Change::Prompts => self.prompts += 1,
            Change::Resource(_) => {}
        }
    }

    /// The lists in `wanted` that changed between `self` and `now`. Sets `self` to `now`.
    pub(crate) fn advance_to(&mut self, now: Self, wanted: ListChangeFilter) -> Vec<Change> {
        let before = std::mem::replace(self, now);
        let changed = [
            (wanted.tools && before.tools != now.tools, Change::Tools),
            (wanted.resources && before.resources != now.resources, Change::Resources),
            (wanted.prompts && before.prompts != now.prompts, Change::Prompts),
        ];
        changed.into_iter().filter_map(|(changed, change)| changed.then_some(change)).collect()
    }
}

/// Receives every change and marks it for the clients that are subscribed to it.
#[derive(Debug)]
pub(crate) struct ChangeDispatcher {
    list_versions: watch::Sender<ListVersions>,
    watched_resources: Mutex<WatchedResources>,
    /// The clients of each user, for changes that only that user sees.
    users: Mutex<HashMap<User, Vec<Weak<PendingChanges>>>>,
    /// The clients that have a session, for changes that only one client sees.
    clients: Mutex<HashMap<ClientKey, Weak<PendingChanges>>>,
}

#[derive(Debug, Default)]
struct WatchedResources {
    watchers_by_uri: HashMap<ResourceUri, Vec<Weak<PendingChanges>>>,
    count: usize,
}

impl ChangeDispatcher {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            list_versions: watch::Sender::new(ListVersions::default()),
            watched_resources: Mutex::default(),
            users: Mutex::default(),
            clients: Mutex::default(),
        })
    }

    /// The number of changes of each list so far.
    pub(crate) fn list_versions(&self) -> ListVersions {
        *self.list_versions.borrow()
    }

    fn watched_resources(&self) -> MutexGuard<'_, WatchedResources> {
        self.watched_resources.lock()
    }

    fn users(&self) -> MutexGuard<'_, HashMap<User, Vec<Weak<PendingChanges>>>> {
        self.users.lock()
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<ClientKey, Weak<PendingChanges>>> {
        self.clients.lock()
    }

    fn pending_changes_of(&self, user: &User) -> Vec<Arc<PendingChanges>> {
        let users = self.users();
        let inboxes = users.get(user).into_iter().flatten();
        inboxes.filter_map(Weak::upgrade).collect()
    }
}

impl ChangeListener for ChangeDispatcher {
    fn on_change(&self, change: &Change, audience: ChangeAudience<'_>) {
        let inboxes: Vec<Arc<PendingChanges>> = match (audience, change) {
            (ChangeAudience::User(user), _) => self.pending_changes_of(user),
            (ChangeAudience::Client(client), _) => {
                self.clients().get(client).and_then(Weak::upgrade).into_iter().collect()
            }
            (ChangeAudience::Everyone, Change::Tools | Change::Resources | Change::Prompts) => {
                return self.list_versions.send_modify(|counts| counts.increment(change));
            }
            (ChangeAudience::Everyone, Change::Resource(uri)) => {
                let watched = self.watched_resources();
                let watchers = uri.with_parents().filter_map(|uri| watched.watchers_by_uri.get(&uri));
                watchers.flatten().filter_map(Weak::upgrade).collect()
            }
        };
        for pending in inboxes {
            pending.mark_changed(change);
        }
    }
}

/// The resources that one client watches, and its pending notifications: changes of these resources, and list
/// changes that only its user or client sees.
#[derive(Debug)]
pub(crate) struct PendingChanges {
    dispatcher: Arc<ChangeDispatcher>,
    this: Weak<Self>,
    caller: Caller,
    user: Option<User>,
    client: Option<ClientKey>,
    state: Mutex<PendingState>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct PendingState {
    /// The guard keeps the subscription at the backend.
    watched: BTreeMap<ResourceUri, SubscriptionGuard>,
    changed: BTreeSet<ResourceUri>,
    list_versions: ListVersions,
}

impl PendingChanges {
    /// Creates the state of one client. `client` is given if the client has a session.
    pub(crate) fn new(
        changes: &Arc<ChangeDispatcher>,
        caller: &Caller,
        client: Option<ClientKey>,
    ) -> Arc<Self> {
        let pending = Arc::new_cyclic(|this| Self {
            dispatcher: Arc::clone(changes),
            this: this.clone(),
            caller: caller.clone(),
            user: caller.user(),
            client,
            state: Mutex::default(),
            notify: Notify::new(),
        });
        if let Some(user) = &pending.user {
            changes.users().entry(user.clone()).or_default().push(pending.this.clone());
        }
        if let Some(client) = &pending.client {
            changes.clients().insert(client.clone(), pending.this.clone());
        }
        pending
    }

    fn state(&self) -> MutexGuard<'_, PendingState> {
        self.state.lock()
    }

    /// Whether the client watches a resource.
    pub(crate) fn is_watching(&self, uri: &ResourceUri) -> bool {
        self.state().watched.contains_key(uri)
    }

    /// Watches a resource and holds `following`, its subscription at the backend, until [`Self::unwatch`].
    /// Returns false if a limit is reached.
    pub(crate) fn watch(&self, uri: ResourceUri, following: SubscriptionGuard) -> bool {
        if uri.as_str().len() > WATCHED_URI_BYTES_MAX {
            return false;
        }
        {
            let mut uris = self.state();
            if uris.watched.contains_key(&uri) {
                return true;
            }
            if uris.watched.len() >= WATCHED_PER_CLIENT_MAX {
                return false;
            }
            uris.watched.insert(uri.clone(), following);
        }
        let mut watched = self.dispatcher.watched_resources();
        if watched.count >= WATCHED_RESOURCES_MAX {
            drop(watched);
            self.state().watched.remove(&uri);
            return false;
        }
        watched.count += 1;
        watched.watchers_by_uri.entry(uri).or_default().push(self.this.clone());
        true
    }

    /// Stops watching a resource and drops its subscription at the backend.
    pub(crate) fn unwatch(&self, uri: &ResourceUri) {
        let was_watched = {
            let mut uris = self.state();
            uris.changed.remove(uri);
            uris.watched.remove(uri)
        };
        if was_watched.is_some() {
            self.unregister(std::iter::once(uri));
        }
    }

    fn unregister<'a>(&self, uris: impl Iterator<Item = &'a ResourceUri>) {
        let mut watched = self.dispatcher.watched_resources();
        for uri in uris {
            let Some(watchers) = watched.watchers_by_uri.get_mut(uri) else {
                continue;
            };
            watchers.retain(|watcher| !Weak::ptr_eq(watcher, &self.this));
            if watchers.is_empty() {
                watched.watchers_by_uri.remove(uri);
            }
            watched.count -= 1;
        }
    }

    fn mark_changed(&self, change: &Change) {
        let mut uris = self.state();
        match change {
            Change::Resource(uri) if !uri.with_parents().any(|uri| uris.watched.contains_key(&uri)) => return,
            Change::Resource(uri) => drop(uris.changed.insert(uri.clone())),
            Change::Tools | Change::Resources | Change::Prompts => uris.list_versions.increment(change),
        }
        drop(uris);
        self.notify.notify_one();
    }

    /// Takes the list changes that only this client or its user sees, and the changed resources. A resource
    /// is spelled as the client spelled it, if the client watches exactly this one.
    fn take_pending(&self) -> (ListVersions, Vec<ResourceUri>) {
        let mut uris = self.state();
        let changed = std::mem::take(&mut uris.changed);
        let as_subscribed = |uri: ResourceUri| match uris.watched.get_key_value(&uri) {
            Some((watched, _)) => watched.clone(),
            None => uri,
        };
        let changed = changed.into_iter().map(as_subscribed).collect();
        (std::mem::take(&mut uris.list_versions), changed)
    }
}

impl Drop for PendingChanges {
    fn drop(&mut self) {
        if let Some(user) = &self.user {
            let mut users = self.dispatcher.users();
            if let Some(inboxes) = users.get_mut(user) {
                inboxes.retain(|pending| !Weak::ptr_eq(pending, &self.this));
                if inboxes.is_empty() {
                    users.remove(user);
                }
            }
        }
        if let Some(client) = &self.client {
            self.dispatcher.clients().remove(client);
        }
        let watched = std::mem::take(&mut self.state().watched);
        self.unregister(watched.keys());
    }
}

#[cfg(test)]
mod tests;
