//! The issuer's keys as they are now: fetched when first needed, fetched again by age and for keys nobody has heard
//! of, by one task at a time. While the issuer is away the last keys serve on for a bounded time.
//!
//! | Age of the keys | What happens |
//! | --- | --- |
//! | up to 4 minutes | they serve |
//! | up to 5 minutes | they serve, and are fetched again meanwhile |
//! | up to 1 hour | they are fetched first; they serve on only if that fails |
//! | more | nobody is admitted until they have been fetched |

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Uri;
use parking_lot::Mutex;
use tokio::sync::watch;
use vmcp_domain::Unauthorized;

use crate::clock::Clock;
use crate::discovery::{self, Metadata};
use crate::fetch::{FetchError, Fetcher};
use crate::key_set::KeySet;
use crate::policy::{Introspection, OidcPolicy};

/// Keys up to this age are taken without a thought.
const FRESH_AGE_MAX: Duration = Duration::from_secs(240);
/// A key that the issuer has withdrawn is taken for at most so long, as long as the issuer answers.
pub(crate) const REFRESH_AGE_MAX: Duration = Duration::from_secs(300);
/// Keys older than this are not taken, whatever the issuer does.
pub(crate) const STALE_AGE_MAX: Duration = Duration::from_secs(3600);
/// Fetching for keys that tokens name, which they do at will, begins at most so often; so does fetching that is not
/// waited for.
pub(crate) const REFETCH_INTERVAL_MIN: Duration = Duration::from_secs(30);
/// Without any usable keys fetching is tried this often.
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How long one refresh may take, and how long a request waits for one.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of the issuer at one moment.
#[derive(Debug)]
pub(crate) struct IssuerSnapshot {
    pub(crate) keys: KeySet,
    pub(crate) metadata: Metadata,
    /// Goes up when the keys change.
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
    /// Hears when the refresh under way is over.
    running: Option<watch::Receiver<()>>,
    last_for_age: Option<Duration>,
    last_for_unknown_key: Option<Duration>,
    has_failed: bool,
}

/// Why keys are fetched. One reason does not use up the other's turn, so that a key that is new shortly after the
/// start is found at once.
#[derive(Clone, Copy)]
enum RefreshReason {
    /// There are none, or they are old.
    Age,
    /// A token named one that is not there.
    UnknownKey,
}

impl KeyStore {
    pub(crate) fn new(policy: Arc<OidcPolicy>, fetcher: Arc<Fetcher>, clock: Arc<dyn Clock>) -> Self {
        let desk = Mutex::default();
        Self(Arc::new(KeyStoreInner {
            policy,
            fetcher,
            clock,
            current: ArcSwapOption::empty(),
            refresh_state: desk,
        }))
    }

    /// What is known of the issuer, as fresh as it has to be.
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
            // Not waited for: the issuer may be away.
            drop(self.0.start_refresh(RefreshReason::Age, REFETCH_INTERVAL_MIN));
            return Ok(snapshot);
        }
        self.0.wait_for_refresh(RefreshReason::Age, RETRY_INTERVAL_MIN).await;
        let latest = self.0.current.load_full().ok_or(Unauthorized::Unavailable)?;
        if self.0.age(&latest) <= STALE_AGE_MAX { Ok(latest) } else { Err(Unauthorized::Unavailable) }
    }

    /// What is known of the issuer after a token named a key that `seen` does not have.
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
        self.clock.uptime().saturating_sub(snapshot.fetched_at)
    }

    /// Waits for the refresh under way, or for one that is begun, if the last for this reason did not begin
    /// within `pause`.
    async fn wait_for_refresh(self: &Arc<Self>, reason: RefreshReason, pause: Duration) {
        if let Some(mut running) = self.start_refresh(reason, pause) {
            // Its task drops the other end when it is over, however that comes about.
            let over = async { while running.changed().await.is_ok() {} };
            tokio::time::timeout(REFRESH_TIMEOUT, over).await.ok();
        }
    }

    fn start_refresh(
        self: &Arc<Self>,
        reason: RefreshReason,
        pause: Duration,
    ) -> Option<watch::Receiver<()>> {
        let now = self.clock.uptime();
        let mut desk = self.refresh_state.lock();
        if let Some(running) = &desk.running {
            return Some(running.clone());
        }
        let last = match reason {
            RefreshReason::Age => &mut desk.last_for_age,
            RefreshReason::UnknownKey => &mut desk.last_for_unknown_key,
        };
        if last.is_some_and(|last| now.saturating_sub(last) < pause) {
            return None;
        }
        *last = Some(now);
        let (over, running) = watch::channel(());
        desk.running = Some(running.clone());
        // A task that cannot be begun gives up at once, and then needs the desk itself.
        drop(desk);
        let work = RefreshTask { store: Arc::clone(self), done_sender: Some(over), has_failed: true };
        // On a task of its own: the request that happened to come first may leave, and others wait for it too.
        tokio::spawn(work.run());
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
        let fetched = self.clock.uptime();
        self.current.store(Some(Arc::new(IssuerSnapshot {
            keys,
            metadata,
            generation,
            fetched_at: fetched,
        })));
        Ok(())
    }
}

/// One refresh. Whatever becomes of its task, the desk is free again afterwards.
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
        let mut desk = self.store.refresh_state.lock();
        desk.running = None;
        desk.has_failed = self.has_failed;
        drop(desk);
        drop(self.done_sender.take());
    }
}
