//! Caches the issuer's keys. They are fetched when first needed, and again by age and for unknown key
//! identifiers, by one task at a time. While the issuer does not answer, the last keys are used for a limited
//! time.
//!
//! | Age of the keys | What happens |
//! | --- | --- |
//! | up to 4 minutes | they are used |
//! | up to 5 minutes | they are used, and refreshed in the background |
//! | up to 1 hour | they are refreshed first, and used only if that fails |
//! | more | no token is accepted until they have been fetched |

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Uri;
use parking_lot::Mutex;
use tokio::sync::watch;
use vmcp_domain::Unauthorized;
use vmcp_timing::Clock;

use crate::discovery::{self, Metadata};
use crate::fetcher::{FetchError, Fetcher};
use crate::jwt::key_set::KeySet;
use crate::policy::{Introspection, OidcPolicy};

/// Keys up to this age are used without a refresh.
const FRESH_AGE_MAX: Duration = Duration::from_secs(240);
/// The longest time for which a withdrawn key is accepted while the issuer answers.
pub(crate) const REFRESH_AGE_MAX: Duration = Duration::from_secs(300);
/// Keys older than this are never used.
pub(crate) const STALE_AGE_MAX: Duration = Duration::from_secs(3600);
/// The shortest interval between refreshes for unknown key identifiers, which clients choose freely. It also
/// applies to background refreshes.
pub(crate) const REFETCH_INTERVAL_MIN: Duration = Duration::from_secs(30);
/// The shortest interval between refreshes while no usable keys exist.
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The time-out of one refresh, and of a request that waits for one.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// A snapshot of what is known about the issuer.
#[derive(Debug)]
pub(crate) struct IssuerSnapshot {
    pub(crate) keys: KeySet,
    pub(crate) metadata: Metadata,
    /// Increases when the keys change.
    pub(crate) generation: u64,
    /// When it was fetched, by the clock's uptime.
    fetched_at: Duration,
}

/// The issuer's keys.
pub(crate) struct KeyStore(Arc<KeyStoreInner>);

struct KeyStoreInner {
    policy: Arc<OidcPolicy>,
    fetcher: Arc<Fetcher>,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<IssuerSnapshot>,
    refresh_state: Mutex<RefreshState>,
}

#[derive(Default)]
struct RefreshState {
    /// Notifies when the running refresh has ended.
    running: Option<watch::Receiver<()>>,
    last_for_age: Option<Duration>,
    last_for_unknown_key: Option<Duration>,
    has_failed: bool,
}

/// Why keys are fetched. Each reason has its own interval, so that a key that is new shortly after the start
/// is found at once.
#[derive(Clone, Copy)]
enum RefreshReason {
    /// There are no keys, or they are too old.
    Age,
    /// A token named an unknown key.
    UnknownKey,
}

impl KeyStore {
    pub(crate) fn new(policy: Arc<OidcPolicy>, fetcher: Arc<Fetcher>, clock: Arc<dyn Clock>) -> Self {
        let refresh_state = Mutex::default();
        Self(Arc::new(KeyStoreInner {
            policy,
            fetcher,
            clock,
            current: ArcSwapOption::empty(),
            refresh_state,
        }))
    }

    /// Returns a snapshot that is fresh enough, by the table above.
    pub(crate) async fn current(&self) -> Result<Arc<IssuerSnapshot>, Unauthorized> {
        let Some(snapshot) = self.0.current.load_full() else {
            self.0.wait_for_refresh(RefreshReason::Age, RETRY_INTERVAL_MIN).await;
            return self.0.current.load_full().ok_or(Unauthorized::Unavailable);
        };
        let age = self.0.age(&snapshot);
        if age <= FRESH_AGE_MAX {
            return Ok(snapshot);
        }
        if age <= REFRESH_AGE_MAX || (age <= STALE_AGE_MAX && self.0.refresh_state.lock().has_failed) {
            // The refresh is not awaited, because the issuer may be down.
            drop(self.0.start_refresh(RefreshReason::Age, REFETCH_INTERVAL_MIN));
            return Ok(snapshot);
        }
        self.0.wait_for_refresh(RefreshReason::Age, RETRY_INTERVAL_MIN).await;
        let latest = self.0.current.load_full().ok_or(Unauthorized::Unavailable)?;
        if self.0.age(&latest) <= STALE_AGE_MAX { Ok(latest) } else { Err(Unauthorized::Unavailable) }
    }

    /// Returns a snapshot after a token named a key that `seen` does not have.
    pub(crate) async fn refreshed_after(&self, seen: &Arc<IssuerSnapshot>) -> Arc<IssuerSnapshot> {
        let latest = self.0.current.load_full();
        match latest {
            Some(latest) if !Arc::ptr_eq(&latest, seen) => latest,
            Some(_) | None => {
                self.0.wait_for_refresh(RefreshReason::UnknownKey, REFETCH_INTERVAL_MIN).await;
                self.0.current.load_full().unwrap_or_else(|| Arc::clone(seen))
            }
        }
    }
}

impl KeyStoreInner {
    fn age(&self, snapshot: &IssuerSnapshot) -> Duration {
        self.clock.now().as_duration().saturating_sub(snapshot.fetched_at)
    }

    /// Waits for the running refresh. Without one it starts a refresh, unless the last one for this reason
    /// started less than `interval_min` ago.
    async fn wait_for_refresh(self: &Arc<Self>, reason: RefreshReason, interval_min: Duration) {
        if let Some(mut running) = self.start_refresh(reason, interval_min) {
            // The task drops the sender when it ends for any reason.
            let over = async { while running.changed().await.is_ok() {} };
            tokio::time::timeout(REFRESH_TIMEOUT, over).await.ok();
        }
    }

    fn start_refresh(
        self: &Arc<Self>,
        reason: RefreshReason,
        interval_min: Duration,
    ) -> Option<watch::Receiver<()>> {
        let now = self.clock.now().as_duration();
        let mut refresh_state = self.refresh_state.lock();
        if let Some(running) = &refresh_state.running {
            return Some(running.clone());
        }
        let last = match reason {
            RefreshReason::Age => &mut refresh_state.last_for_age,
            RefreshReason::UnknownKey => &mut refresh_state.last_for_unknown_key,
        };
        if last.is_some_and(|last| now.saturating_sub(last) < interval_min) {
            return None;
        }
        *last = Some(now);
        let (over, running) = watch::channel(());
        refresh_state.running = Some(running.clone());
        // A task that cannot be spawned is dropped at once, and its `drop` takes this lock.
        drop(refresh_state);
        let task = RefreshTask { store: Arc::clone(self), done_sender: Some(over), has_failed: true };
        // A separate task: the request that starts it may be cancelled, and others wait for it too.
        tokio::spawn(task.run());
        Some(running)
    }

    async fn fetch(&self) -> Result<(), FetchError> {
        let before = self.current.load_full();
        let metadata = match (&self.policy.jwks_uri, &self.policy.introspection) {
            (Some(_), Introspection::Disabled | Introspection::Enabled(Some(_), _)) => Metadata::default(),
            (None, _) | (Some(_), Introspection::Enabled(None, _)) => {
                discovery::discover(&self.fetcher, &self.policy).await?
            }
        };
        let jwks: &Uri = match (&self.policy.jwks_uri, &metadata.jwks_uri) {
            (Some(configured), _) => configured,
            (None, Some(found)) => found,
            (None, None) => return Err(FetchError::Invalid("it names no `jwks_uri`")),
        };
        let keys = KeySet::parse(&self.fetcher.get(jwks).await?)?;
        let generation = match &before {
            Some(before) if before.keys.is_same(&keys) => before.generation,
            Some(before) => before.generation + 1,
            None => 0,
        };
        tracing::debug!(issuer = %self.policy.issuer, keys = keys.len(), generation, "signing keys fetched");
        let fetched = self.clock.now().as_duration();
        self.current.store(Some(Arc::new(IssuerSnapshot {
            keys,
            metadata,
            generation,
            fetched_at: fetched,
        })));
        Ok(())
    }
}

/// One refresh. Its `drop` always clears the running state.
struct RefreshTask {
    store: Arc<KeyStoreInner>,
    done_sender: Option<watch::Sender<()>>,
    has_failed: bool,
}

impl RefreshTask {
    async fn run(mut self) {
        let fetched = tokio::time::timeout(REFRESH_TIMEOUT, self.store.fetch()).await;
        match fetched.unwrap_or(Err(FetchError::Timeout)) {
            Ok(()) => self.has_failed = false,
            Err(error) => {
                let issuer = &self.store.policy.issuer;
                tracing::warn!(%issuer, %error, "the issuer's signing keys cannot be fetched");
            }
        }
    }
}

impl Drop for RefreshTask {
    fn drop(&mut self) {
        let mut refresh_state = self.store.refresh_state.lock();
        refresh_state.running = None;
        refresh_state.has_failed = self.has_failed;
        drop(refresh_state);
        drop(self.done_sender.take());
    }
}
