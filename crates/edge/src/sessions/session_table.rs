//! The table of all sessions: opens, finds, sweeps and ends them. The table is bounded, a session belongs to
//! the caller that opened it, and its identifier cannot be guessed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;
use vmcp_domain::Caller;
use vmcp_wire::server::Refusal;

use super::{Session, SessionClient, ms_since};
use crate::policy::EdgeLimits;
use crate::request::admission::{CallerHash, CallerTotals};
use crate::request::changes::ListVersions;

/// A session that has been idle for less than this many milliseconds is not evicted from a full table. A
/// caller at its own limit can still evict its own sessions.
const EVICTION_IDLE_MS_MIN: u64 = 60_000;
/// The minimum time between two searches of a full table for sessions to evict, in milliseconds.
pub(super) const EVICTION_SEARCH_INTERVAL_MS: u64 = 1_000;
/// The maximum number of entries in `caller_search_after_ms`.
const BUSY_CALLERS_REMEMBERED_MAX: usize = 1_000;

/// All sessions of a listener.
#[derive(Debug)]
pub(crate) struct SessionTable {
    sessions: RwLock<HashMap<u128, Arc<Session>>>,
    count_max: usize,
    per_caller_max: u32,
    callers: CallerTotals,
    idle_ms_max: u64,
    epoch: Instant,
    /// The time before which a full table is not searched again, in milliseconds since `epoch`.
    search_after_ms: AtomicU64,
    /// The same for each caller that had all its sessions in use at the last search.
    caller_search_after_ms: Mutex<HashMap<CallerHash, u64>>,
}

/// One use of a session. The session is not idle while it is held.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    pub(crate) session: Arc<Session>,
}

impl SessionGuard {
    fn new(session: &Arc<Session>) -> Self {
        session.active_uses.fetch_add(1, Ordering::Relaxed);
        session.touch();
        Self { session: Arc::clone(session) }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.session.touch();
        self.session.active_uses.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    fn touch(&self) {
        self.last_used_ms.store(ms_since(self.epoch), Ordering::Relaxed);
    }

    /// How long the session has been idle, in milliseconds; 0 while it is in use.
    fn idle_ms(&self, now_ms: u64) -> u64 {
        if self.active_uses.load(Ordering::Relaxed) > 0 {
            return 0;
        }
        now_ms.saturating_sub(self.last_used_ms.load(Ordering::Relaxed))
    }

    /// The session identifier that the client sends: 32 hexadecimal digits.
    pub(crate) fn id(&self) -> String {
        format!("{:032x}", self.key)
    }

    /// The first 8 digits of the identifier, for logs. They are too few to use the session.
    pub(crate) fn short_id(&self) -> String {
        format!("{:08x}…", self.key >> 96)
    }
}

impl SessionTable {
    pub(crate) fn new(limits: &EdgeLimits) -> Self {
        Self {
            sessions: RwLock::default(),
            count_max: limits.session_count_max,
            per_caller_max: u32::try_from(limits.sessions_per_caller_max).unwrap_or(u32::MAX),
            callers: CallerTotals::default(),
            idle_ms_max: u64::try_from(limits.session_idle_max.as_millis()).unwrap_or(u64::MAX),
            epoch: Instant::now(),
            search_after_ms: AtomicU64::new(0),
            caller_search_after_ms: Mutex::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<u128, Arc<Session>>> {
        self.sessions.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<u128, Arc<Session>>> {
        self.sessions.write()
    }

    /// A session outside the table, for a stdio client.
    pub(crate) fn unlisted(client: SessionClient, seen_versions: ListVersions) -> Session {
        let owner = CallerHash::of(&client.caller, None);
        Session::new((0, owner), client, seen_versions, Instant::now())
    }

    /// Opens a session. If the caller has the maximum number of sessions, its sessions that have been idle
    /// longest are evicted. If the table is full, the same happens among all sessions.
    ///
    /// # Errors
    ///
    /// `CallerSessionsFull` or `SessionsFull` if no session can be evicted, `Internal` without random bytes.
    pub(crate) fn open(
        &self,
        client: SessionClient,
        owner: CallerHash,
        seen_versions: ListVersions,
    ) -> Result<Arc<Session>, Refusal> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            tracing::error!(%error, "no random bytes for a session");
            Refusal::Internal
        })?;
        let key = u128::from_ne_bytes(bytes);
        let mut sessions = self.write();
        let mut evicted = Vec::new();
        if self.callers.count_of(owner) >= self.per_caller_max {
            evicted = self.evict_idle_of(owner, &mut sessions);
        }
        if sessions.len() >= self.count_max {
            evicted.extend(self.evict_idle(&mut sessions));
        }
        evicted.iter().for_each(|session| self.callers.remove(session.owner));
        let opened = if self.callers.count_of(owner) >= self.per_caller_max {
            Err(Refusal::CallerSessionsFull)
        } else if sessions.len() >= self.count_max {
            Err(Refusal::SessionsFull)
        } else {
            let session = Arc::new(Session::new((key, owner), client, seen_versions, self.epoch));
            sessions.insert(key, Arc::clone(&session));
            self.callers.add(owner);
            Ok(session)
        };
        drop(sessions);
        for session in evicted {
            session.end();
        }
        opened
    }

    /// Removes the sessions that have been idle longest, one thousandth of the table at a time. Otherwise a
    /// full table would be searched for every new session.
    fn evict_idle(&self, sessions: &mut HashMap<u128, Arc<Session>>) -> Vec<Arc<Session>> {
        let now = ms_since(self.epoch);
        if now < self.search_after_ms.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut idle: Vec<(u64, u128)> = sessions
            .values()
            .map(|session| (session.idle_ms(now), session.key))
            .filter(|(idle_ms, _)| *idle_ms > EVICTION_IDLE_MS_MIN)
            .collect();
        if idle.is_empty() {
            self.search_after_ms.store(now + EVICTION_SEARCH_INTERVAL_MS, Ordering::Relaxed);
            return Vec::new();
        }
        let count = (self.count_max / 1000).clamp(1, idle.len());
        idle.select_nth_unstable_by(count - 1, |left, right| right.cmp(left));
        let longest = idle.iter().take(count);
        longest.filter_map(|(_, key)| sessions.remove(key)).collect()
    }

    /// Removes a tenth of one caller's sessions, those that have been idle longest. Otherwise the table would
    /// be searched for every new session of a caller at its limit.
    fn evict_idle_of(
        &self,
        owner: CallerHash,
        sessions: &mut HashMap<u128, Arc<Session>>,
    ) -> Vec<Arc<Session>> {
        let now = ms_since(self.epoch);
        let mut search_after = self.caller_search_after_ms.lock();
        if search_after.get(&owner).is_some_and(|after| now < *after) {
            return Vec::new();
        }
        let own = sessions.values().filter(|session| session.owner == owner);
        let unused = own.filter(|session| session.active_uses.load(Ordering::Relaxed) == 0);
        let mut unused: Vec<(u64, u128)> =
            unused.map(|session| (session.idle_ms(now), session.key)).collect();
        if unused.is_empty() {
            if search_after.len() >= BUSY_CALLERS_REMEMBERED_MAX {
                search_after.clear();
            }
            search_after.insert(owner, now + EVICTION_SEARCH_INTERVAL_MS);
            return Vec::new();
        }
        unused.sort_unstable_by(|left, right| right.cmp(left));
        let count = usize::try_from(self.per_caller_max / 10).unwrap_or_default().max(1);
        unused.iter().take(count).filter_map(|(_, key)| sessions.remove(key)).collect()
    }

    /// Finds the session with the identifier `id` for `caller`. Another caller gets the same error as for
    /// an unknown session. The session stays open for its owner: another caller with a leaked identifier must
    /// not be able to end it.
    pub(crate) fn find(&self, id: &[u8], caller: &Caller) -> Result<SessionGuard, Refusal> {
        let key = parse_session_id(id).ok_or(Refusal::SessionUnknown)?;
        let session = self.read().get(&key).cloned().ok_or(Refusal::SessionUnknown)?;
        if !session.caller.is_same(caller) {
            tracing::warn!(session = %session.short_id(), "another caller tried to use a session and is refused");
            return Err(Refusal::SessionUnknown);
        }
        if session.idle_ms(ms_since(self.epoch)) > self.idle_ms_max {
            self.close(&session);
            return Err(Refusal::SessionUnknown);
        }
        Ok(SessionGuard::new(&session))
    }

    /// Removes a session from the table and ends it.
    pub(crate) fn close(&self, session: &Session) {
        let removed = self.write().remove(&session.key);
        if removed.is_some() {
            self.callers.remove(session.owner);
            session.end();
        }
    }

    /// Ends sessions that have been idle too long, and streams that were not resumed in time.
    pub(crate) fn sweep(&self) {
        let now = ms_since(self.epoch);
        let (mut idle, mut detached) = (Vec::new(), Vec::new());
        for session in self.read().values() {
            if session.idle_ms(now) > self.idle_ms_max {
                idle.push(Arc::clone(session));
            } else if session.has_detached_streams() {
                detached.push(Arc::clone(session));
            }
        }
        for session in detached {
            session.sweep(now);
        }
        for session in idle {
            self.close(&session);
        }
    }

    /// Removes every unanswered question, because clients cannot answer after shutdown has begun.
    pub(crate) fn close_questions(&self) {
        for session in self.read().values() {
            session.questions.close_all();
        }
    }

    /// Ends every session.
    pub(crate) fn clear(&self) {
        let all: Vec<_> = self.write().drain().map(|(_, session)| session).collect();
        for session in all {
            self.callers.remove(session.owner);
            session.end();
        }
    }

    /// The interval at which [`Self::sweep`] must be called: a quarter of the idle time-out, from 50 ms to 15
    /// s.
    pub(crate) fn sweep_interval(&self) -> Duration {
        Duration::from_millis((self.idle_ms_max / 4).clamp(50, 15_000))
    }
}

fn parse_session_id(id: &[u8]) -> Option<u128> {
    if id.len() != 32 || !id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()
}
