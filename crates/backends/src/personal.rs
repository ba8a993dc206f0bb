//! The lines to a backend that sees each caller as somebody else: one for each scope, made when its caller first asks
//! and ended when nobody has used it for a while. Nothing of a line is shared between scopes, sockets included.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use vmcp_domain::{CallContext, CallerScope, Scope};

use crate::bearing::{self, Bearing, Holder};
use crate::failure::{Class, Failure};
use crate::policy::Credentials;
use crate::supervisor::{self, Shared};
use crate::sync::Guarded;

/// The most callers with a line of their own to one backend. The one idle for longest gives way.
const LINES_MAX: usize = 1000;
/// A line that nobody has used for this long is ended.
const IDLE_WAIT: Duration = Duration::from_mins(5);
/// How often idle lines are looked for.
const SWEEP_WAIT: Duration = Duration::from_secs(30);

/// Every line of a backend.
pub(crate) struct Lines {
    main: Arc<Shared>,
    credentials: Credentials,
    table: Guarded<HashMap<CallerScope, Line>>,
    /// Where lines live: who asks for one may be on a thread that ends before its session is ended.
    runtime: Handle,
}

struct Line {
    shared: Arc<Shared>,
    users: Arc<AtomicU32>,
    used: Instant,
}

impl Line {
    fn is_free(&self) -> bool {
        self.users.load(Ordering::Relaxed) == 0 && self.shared.wanted.borrow().is_empty()
    }
}

/// A line in use: it is not ended as long as this is held.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    users: Option<Arc<AtomicU32>>,
}

impl Lease {
    /// The line that all callers share; it does not end.
    pub(crate) fn of_main(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), users: None }
    }
}

impl Deref for Lease {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(users) = &self.users {
            users.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Lines {
    /// The lines of the backend whose own line is `main`. Idle ones are ended by a task that ends with it.
    pub(crate) fn start(main: &Arc<Shared>, credentials: Credentials) -> Arc<Self> {
        let lines = Arc::new(Self {
            main: Arc::clone(main),
            credentials,
            table: Guarded::default(),
            runtime: Handle::current(),
        });
        let (sweeping, stop) = (Arc::downgrade(&lines), main.stop.clone());
        main.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = sleep(SWEEP_WAIT) => {}
                    () = stop.cancelled() => return,
                }
                let Some(lines) = sweeping.upgrade() else { return };
                lines.sweep();
            }
        });
        lines
    }

    /// Which other callers see the backend as this one does.
    pub(crate) fn scope(&self, ctx: &CallContext) -> Result<(CallerScope, Holder), Failure> {
        let holder = Holder::of(ctx);
        let subject = holder.as_ref().map(Holder::subject);
        let scope = self.credentials.0.scope(subject.as_ref()).map_err(|error| bearing::failure(&error))?;
        match (scope, holder) {
            (Scope::Caller(scope), Some(holder)) => Ok((scope, holder)),
            (Scope::Caller(_) | Scope::Shared, _) => {
                Err(Failure::not_sent(Class::Auth, "there is no credential for this caller"))
            }
        }
    }

    /// The caller's line, if there is one; what it carries stays as it is.
    pub(crate) fn existing(&self, ctx: &CallContext) -> Option<Lease> {
        let (scope, _) = self.scope(ctx).ok()?;
        self.table.lock().get_mut(&scope).map(Line::lease)
    }

    /// The caller's line, begun if there is none.
    pub(crate) fn lease(&self, ctx: &CallContext) -> Result<Lease, Failure> {
        let (scope, holder) = self.scope(ctx)?;
        if self.main.stop.is_cancelled() {
            return Err(Failure::not_sent(Class::Exited, "stopped"));
        }
        let mut table = self.table.lock();
        if let Some(line) = table.get_mut(&scope) {
            line.shared.renew(holder);
            return Ok(line.lease());
        }
        if table.len() >= LINES_MAX {
            let free = table.iter().filter(|(_, line)| line.is_free());
            let oldest = free.min_by_key(|(_, line)| line.used).map(|(scope, _)| *scope);
            let line = oldest.and_then(|scope| table.remove(&scope)).ok_or(Failure::Overloaded)?;
            line.shared.stop.cancel();
        }
        let shared = self.main.personal(scope, Bearing::of(self.credentials.clone(), holder));
        self.main.tasks.spawn_on(supervisor::run(Arc::clone(&shared)), &self.runtime);
        let mut line = Line { shared, users: Arc::default(), used: Instant::now() };
        let lease = line.lease();
        table.insert(scope, line);
        Ok(lease)
    }

    /// Ends the lines that have not been used for a while.
    fn sweep(&self) {
        let now = Instant::now();
        self.table.lock().retain(|_, line| {
            let stays = !line.is_free() || now.duration_since(line.used) < IDLE_WAIT;
            if !stays {
                line.shared.stop.cancel();
            }
            stays
        });
    }
}

impl Line {
    fn lease(&mut self) -> Lease {
        self.used = Instant::now();
        self.users.fetch_add(1, Ordering::Relaxed);
        Lease { shared: Arc::clone(&self.shared), users: Some(Arc::clone(&self.users)) }
    }
}
