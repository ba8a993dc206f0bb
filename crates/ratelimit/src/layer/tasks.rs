//! Calls that continue as tasks: their slots are held until the backend reports that the task has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use vmcp_domain::{
    CallContext, CallOrigin, Error, Reply, SharedGateway, SilentClient, TaskHandle, TaskOperation,
    TaskRequest, WorkHold,
};
use vmcp_json::{Json, Members};

/// How many tasks are followed at once. The slots of further tasks are released at once.
const FOLLOWED_COUNT_MAX: usize = 10_000;
/// The pause between two polls of a task: the first one where the backend names none, the shortest and the
/// longest. The pause grows by half each time.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(500);
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// A task is followed for this long at most, whatever the backend reports.
const FOLLOW_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// The number of failed polls in a row after which the backend is assumed to have lost the task.
const FAILURES_MAX: u32 = 5;

/// The number of tasks that are followed now.
static FOLLOWED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// A task that a call has become, whose slots are held.
pub(super) struct FollowedTask {
    inner: SharedGateway,
    ctx: CallContext,
    handle: TaskHandle,
    hold: WorkHold,
    poll_interval: Duration,
    ends_at: Instant,
}

impl FollowedTask {
    /// The task that `reply` announces, for a call that was made in `ctx` and holds slots; `None` if there is
    /// nothing to follow.
    pub(super) fn from_reply(inner: &SharedGateway, ctx: &CallContext, reply: &Reply) -> Option<Self> {
        let hold = ctx.hold.clone().filter(|_| reply.is_task())?;
        let handle = TaskHandle::parse(&reply.members.get("taskId")?.decode_string()?)?;
        let millis = |name: &str| {
            let number: Option<u64> = reply.members.get(name).and_then(|value| value.decode().ok());
            number.map(Duration::from_millis)
        };
        let (capabilities, key) = (ctx.client.capabilities().clone(), ctx.client.client_key());
        let ctx = CallContext {
            client: Arc::new(SilentClient { key, capabilities }),
            origin: CallOrigin::Gateway,
            deadline: None,
            meta: Members::new(),
            hold: None,
            reservation: None,
            ..ctx.clone()
        };
        let pause =
            millis("pollIntervalMs").unwrap_or(POLL_INTERVAL).clamp(POLL_INTERVAL_MIN, POLL_INTERVAL_MAX);
        let kept = millis("ttlMs").unwrap_or(FOLLOW_DURATION_MAX).min(FOLLOW_DURATION_MAX);
        Some(Self {
            inner: inner.clone(),
            ctx,
            handle,
            hold,
            poll_interval: pause,
            ends_at: Instant::now() + kept,
        })
    }

    /// Holds the slots until the task has ended or the backend no longer knows it.
    pub(super) async fn follow(self) {
        let Some(_followed) = FollowedCountGuard::acquire() else { return };
        let Self { inner, ctx, handle, hold, poll_interval: mut pause, ends_at: ends } = self;
        let mut failures = 0;
        while Instant::now() < ends && failures < FAILURES_MAX {
            sleep_until((Instant::now() + pause).min(ends)).await;
            pause = (pause + pause / 2).min(POLL_INTERVAL_MAX);
            let request =
                TaskRequest { operation: TaskOperation::Get, handle: handle.clone(), extra: Members::new() };
            match inner.task(&ctx, request).await {
                Ok(reply) if has_ended(&reply) => break,
                Ok(_) => failures = 0,
                Err(Error::UnknownTask | Error::BackendRefused { .. }) => break,
                Err(_) => failures += 1,
            }
        }
        drop(hold);
    }
}

fn has_ended(reply: &Reply) -> bool {
    let status = reply.members.get("status").and_then(Json::decode_string);
    status.is_some_and(|status| matches!(&*status, "completed" | "failed" | "cancelled"))
}

/// Counts one followed task; dropping it counts the task out.
struct FollowedCountGuard;

impl FollowedCountGuard {
    fn acquire() -> Option<Self> {
        let below = |count: usize| (count < FOLLOWED_COUNT_MAX).then_some(count + 1);
        FOLLOWED_COUNT.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).ok().map(|_| Self)
    }
}

impl Drop for FollowedCountGuard {
    fn drop(&mut self) {
        FOLLOWED_COUNT.fetch_sub(1, Ordering::AcqRel);
    }
}
