//! Changes of the offer on their way to clients. Nothing queues here: list changes are counted, changed resources are
//! marked once, so a storm of changes costs a client at most one notification per thing it has not been told yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, watch};
use vmcp_domain::{
    Audience, Caller, Change, ChangeListener, ClientKey, Directory, Following, ResourceUri, User,
};

use crate::session::Session;

/// How many resources all clients together may watch.
const WATCHED_MAX: usize = 100_000;
/// How many resources one client may watch.
pub(crate) const WATCHED_PER_CLIENT_MAX: usize = 256;
/// The longest URI that can be watched, in bytes.
const WATCHED_URI_BYTES_MAX: usize = 4096;

/// How often each list has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListCounts {
    tools: u64,
    resources: u64,
    prompts: u64,
}

/// Which list changes somebody wants to hear of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) tools: bool,
    pub(crate) resources: bool,
    pub(crate) prompts: bool,
}

impl Wanted {
    pub(crate) const ALL: Self = Self { tools: true, resources: true, prompts: true };
}

impl ListCounts {
    fn count(&mut self, list: &Change) {
        match list {
            Change::Tools => self.tools += 1,
            Change::Resources => self.resources += 1,
            Change::Prompts => self.prompts += 1,
            Change::Resource(_) => {}
        }
    }

    /// The changes between `self` and `now`, of those `wanted`; `self` catches up.
    pub(crate) fn catch_up(&mut self, now: Self, wanted: Wanted) -> Vec<Change> {
        let before = std::mem::replace(self, now);
        let changed = [
            (wanted.tools && before.tools != now.tools, Change::Tools),
            (wanted.resources && before.resources != now.resources, Change::Resources),
            (wanted.prompts && before.prompts != now.prompts, Change::Prompts),
        ];
        changed.into_iter().filter_map(|(changed, change)| changed.then_some(change)).collect()
    }
}

/// Hears of every change and knows who wants to be told.
#[derive(Debug)]
pub(crate) struct Changes {
    lists: watch::Sender<ListCounts>,
    watched: Mutex<Watched>,
    /// The clients of each user, for changes of what only that user sees so.
    users: Mutex<HashMap<User, Vec<Weak<Inbox>>>>,
    /// The clients that have a session, for changes of what only one client sees so.
    clients: Mutex<HashMap<ClientKey, Weak<Inbox>>>,
}

#[derive(Debug, Default)]
struct Watched {
    by_uri: HashMap<ResourceUri, Vec<Weak<Inbox>>>,
    count: usize,
}

impl Changes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            lists: watch::Sender::new(ListCounts::default()),
            watched: Mutex::default(),
            users: Mutex::default(),
            clients: Mutex::default(),
        })
    }

    /// How often each list has changed up to now.
    pub(crate) fn counts(&self) -> ListCounts {
        *self.lists.borrow()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> MutexGuard<'_, HashMap<User, Vec<Weak<Inbox>>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<ClientKey, Weak<Inbox>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inboxes_of(&self, user: &User) -> Vec<Arc<Inbox>> {
        let users = self.users();
        let inboxes = users.get(user).into_iter().flatten();
        inboxes.filter_map(Weak::upgrade).collect()
    }
}

impl ChangeListener for Changes {
    fn changed(&self, change: &Change, audience: Audience<'_>) {
        let inboxes: Vec<Arc<Inbox>> = match (audience, change) {
            (Audience::User(user), _) => self.inboxes_of(user),
            (Audience::Client(client), _) => {
                self.clients().get(client).and_then(Weak::upgrade).into_iter().collect()
            }
            (Audience::Everyone, Change::Tools | Change::Resources | Change::Prompts) => {
                return self.lists.send_modify(|counts| counts.count(change));
            }
            (Audience::Everyone, Change::Resource(uri)) => {
                let watched = self.watched();
                let watchers = uri.with_parents().filter_map(|uri| watched.by_uri.get(&uri));
                watchers.flatten().filter_map(Weak::upgrade).collect()
            }
        };
        for inbox in inboxes {
            inbox.mark(change);
        }
    }
}

/// The resources one client watches, and what has changed since it was last told: of these, and of the lists where
/// its user alone sees them so.
#[derive(Debug)]
pub(crate) struct Inbox {
    changes: Arc<Changes>,
    this: Weak<Self>,
    caller: Caller,
    user: Option<User>,
    client: Option<ClientKey>,
    uris: Mutex<Uris>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Uris {
    /// With what keeps each followed at its backend.
    watched: BTreeMap<ResourceUri, Following>,
    changed: BTreeSet<ResourceUri>,
    lists: ListCounts,
}

impl Inbox {
    /// Of a client that has a session where `client` is given.
    pub(crate) fn new(changes: &Arc<Changes>, caller: &Caller, client: Option<ClientKey>) -> Arc<Self> {
        let inbox = Arc::new_cyclic(|this| Self {
            changes: Arc::clone(changes),
            this: this.clone(),
            caller: caller.clone(),
            user: caller.user(),
            client,
            uris: Mutex::default(),
            news: Notify::new(),
        });
        if let Some(user) = &inbox.user {
            changes.users().entry(user.clone()).or_default().push(inbox.this.clone());
        }
        if let Some(client) = &inbox.client {
            changes.clients().insert(client.clone(), inbox.this.clone());
        }
        inbox
    }

    fn uris(&self) -> MutexGuard<'_, Uris> {
        self.uris.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client watches a resource.
    pub(crate) fn watches(&self, uri: &ResourceUri) -> bool {
        self.uris().watched.contains_key(uri)
    }

    /// Watches a resource, which is followed as long as that. False when there is no room for another.
    pub(crate) fn watch(&self, uri: ResourceUri, following: Following) -> bool {
        if uri.as_str().len() > WATCHED_URI_BYTES_MAX {
            return false;
        }
        {
            let mut uris = self.uris();
            if uris.watched.contains_key(&uri) {
                return true;
            }
            if uris.watched.len() >= WATCHED_PER_CLIENT_MAX {
                return false;
            }
            uris.watched.insert(uri.clone(), following);
        }
        let mut watched = self.changes.watched();
        if watched.count >= WATCHED_MAX {
            drop(watched);
            self.uris().watched.remove(&uri);
            return false;
        }
        watched.count += 1;
        watched.by_uri.entry(uri).or_default().push(self.this.clone());
        true
    }

    /// Stops watching a resource.
    pub(crate) fn unwatch(&self, uri: &ResourceUri) {
        let was_watched = {
            let mut uris = self.uris();
            uris.changed.remove(uri);
            uris.watched.remove(uri)
        };
        if was_watched.is_some() {
            self.forget(std::iter::once(uri));
        }
    }

    fn forget<'a>(&self, uris: impl Iterator<Item = &'a ResourceUri>) {
        let mut watched = self.changes.watched();
        for uri in uris {
            let Some(watchers) = watched.by_uri.get_mut(uri) else {
                continue;
            };
            watchers.retain(|watcher| !Weak::ptr_eq(watcher, &self.this));
            if watchers.is_empty() {
                watched.by_uri.remove(uri);
            }
            watched.count -= 1;
        }
    }

    fn mark(&self, change: &Change) {
        let mut uris = self.uris();
        match change {
            Change::Resource(uri) if !uri.with_parents().any(|uri| uris.watched.contains_key(&uri)) => return,
            Change::Resource(uri) => drop(uris.changed.insert(uri.clone())),
            Change::Tools | Change::Resources | Change::Prompts => uris.lists.count(change),
        }
        drop(uris);
        self.news.notify_one();
    }

    /// The lists that changed for this user alone, and the resources that changed: in the client's own spelling where it
    /// watches just these.
    fn take(&self) -> (ListCounts, Vec<ResourceUri>) {
        let mut uris = self.uris();
        let changed = std::mem::take(&mut uris.changed);
        let as_watched = |uri: ResourceUri| match uris.watched.get_key_value(&uri) {
            Some((watched, _)) => watched.clone(),
            None => uri,
        };
        let changed = changed.into_iter().map(as_watched).collect();
        (std::mem::take(&mut uris.lists), changed)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if let Some(user) = &self.user {
            let mut users = self.changes.users();
            if let Some(inboxes) = users.get_mut(user) {
                inboxes.retain(|inbox| !Weak::ptr_eq(inbox, &self.this));
                if inboxes.is_empty() {
                    users.remove(user);
                }
            }
        }
        if let Some(client) = &self.client {
            self.changes.clients().remove(client);
        }
        let watched = std::mem::take(&mut self.uris().watched);
        self.forget(watched.keys());
    }
}

/// Who remembers what a client has been told of the lists.
enum Told {
    /// The stream itself.
    Stream(ListCounts, Wanted),
    /// The session, which may have several streams.
    Session(Arc<Session>),
}

/// The changes one stream is to tell of.
pub(crate) struct Feed {
    directory: Arc<dyn Directory>,
    lists: watch::Receiver<ListCounts>,
    inbox: Arc<Inbox>,
    told: Told,
}

impl Feed {
    /// The changes from now on that one stream wants.
    pub(crate) fn of_stream(
        changes: &Arc<Changes>,
        directory: &Arc<dyn Directory>,
        inbox: Arc<Inbox>,
        wanted: Wanted,
    ) -> Self {
        let lists = changes.lists.subscribe();
        let told = Told::Stream(*lists.borrow(), wanted);
        Self { directory: Arc::clone(directory), lists, inbox, told }
    }

    /// The changes a session has not been told of.
    pub(crate) fn of_session(
        changes: &Arc<Changes>,
        directory: &Arc<dyn Directory>,
        session: &Arc<Session>,
    ) -> Self {
        let mut lists = changes.lists.subscribe();
        lists.mark_changed();
        let inbox = session.inbox(changes);
        Self { directory: Arc::clone(directory), lists, inbox, told: Told::Session(Arc::clone(session)) }
    }

    /// What there is to tell now.
    pub(crate) fn take(&mut self) -> Vec<Change> {
        let now = *self.lists.borrow_and_update();
        let (own, resources) = self.inbox.take();
        let (mut changes, wanted) = match &mut self.told {
            Told::Stream(told, wanted) => (told.catch_up(now, *wanted), *wanted),
            Told::Session(session) => (session.catch_up(now), Wanted::ALL),
        };
        for change in ListCounts::default().catch_up(own, wanted) {
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
        // A client that watches a whole is told of its parts, but only of those that it may read.
        let readable = |uri: &ResourceUri| self.directory.may_watch(&self.inbox.caller, uri);
        changes.extend(resources.into_iter().filter(readable).map(Change::Resource));
        changes
    }

    /// Waits until there may be something to tell.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            () = self.inbox.news.notified() => {}
            changed = self.lists.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
        }
    }
}

#[cfg(test)]
mod tests;
