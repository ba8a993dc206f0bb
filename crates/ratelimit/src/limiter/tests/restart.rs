//! Levels that outlive the process: a restart gives no user a fresh budget, and no user a smaller one.

use vmcp_json::Json;

use super::*;
use crate::bucket::calendar::{Calendar, PeriodUnit};
use crate::bucket::saved_levels::SavedLevels;
use crate::plan::policy::{
    CallerSelector, LimitSize, ListHandling, MissingValue, Overflow, Override, Overrides, ValueQuota,
    ValueSource, Window,
};

const HOUR: u64 = 3_600_000_000;
const EVENING: u64 = 1_795_975_200_000_000;

/// A machine's clock: monotonic from the start of a process, with a time of day that continues across
/// processes.
struct MachineClock {
    started: u64,
    day: Arc<ManualClock>,
}

impl Clock for MachineClock {
    fn now(&self) -> Micros {
        Micros(self.day.now().0 - self.started)
    }

    fn time_of_day(&self) -> Micros {
        self.day.now()
    }
}

struct Process {
    gateway: SharedGateway,
    limiter: Arc<Limiter>,
}

fn start(day: &Arc<ManualClock>, policy: LimitPolicy, saved: Option<&[u8]>) -> (Process, usize) {
    let clock = Arc::new(MachineClock { started: day.now().0, day: day.clone() });
    let (planner, observer) = (Arc::new(Planner::new(policy)), Arc::new(NoObserver));
    let (limiter, left_out) = match saved {
        None => (Limiter::new(planner, clock, None, observer), 0),
        Some(bytes) => Limiter::restored(planner, clock, observer, &SavedLevels::decode(bytes).unwrap()),
    };
    let inner = FakeGateway::new(vec![tool("a", "search", "a_search"), tool("b", "search", "b_search")]);
    (Process { gateway: RateLimited::wrap(inner, limiter.clone()), limiter }, left_out)
}

impl Process {
    async fn count_admitted(&self, ctx: &CallContext, attempts: usize) -> usize {
        let mut count = 0;
        for _ in 0..attempts {
            count +=
                usize::from(self.gateway.call_tool(ctx, conformance::tool_call("a_search")).await.is_ok());
        }
        count
    }

    fn save(&self) -> Vec<u8> {
        self.limiter.save().unwrap().encode()
    }
}

fn team(subject: &str, team: &str) -> CallContext {
    let claims = Json::parse(format!(r#"{{"team": "{team}"}}"#)).unwrap().members().unwrap();
    let identity = Identity { issuer: "i".into(), subject: subject.into(), claims };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

fn day() -> Arc<ManualClock> {
    let day = Arc::new(ManualClock::default());
    day.set(Micros(EVENING));
    day
}

fn limits(shared: u64, each: u64, claim: u64) -> LimitPolicy {
    let limit = ValueQuota {
        source: ValueSource::Claim("team".into()),
        missing: MissingValue::Shared,
        list_handling: ListHandling::Each,
        quota: quota(claim, 36_000).unwrap(),
    };
    let server = Limits {
        shared: quota(shared, 36_000),
        per_user: quota(each, 36_000),
        per_value: vec![limit],
        ..Limits::default()
    };
    policy(server, vec![rule("a_search", None, quota(each * 2, 36_000))], Anonymous::Refuse)
}

#[tokio::test]
async fn a_restart_hands_out_nothing_and_takes_nothing() {
    let day = day();
    let (first, _) = start(&day, limits(10, 4, 6), None);
    assert_eq!(first.count_admitted(&team("ada", "red"), 9).await, 4);
    assert_eq!(first.count_admitted(&team("bob", "red"), 9).await, 2, "the rest of the team's");
    let saved = first.save();
    let (second, left_out) = start(&day, limits(10, 4, 6), Some(&saved));
    assert_eq!(left_out, 0);
    assert_eq!(second.count_admitted(&team("ada", "red"), 9).await, 0);
    assert_eq!(second.count_admitted(&team("bob", "red"), 9).await, 0);
    assert_eq!(second.count_admitted(&team("bob", "blue"), 9).await, 2, "two of bob's own are left");
    assert_eq!(second.count_admitted(&team("cy", "blue"), 9).await, 2, "two of all callers' are left");
}

#[tokio::test]
async fn the_time_away_fills_buckets() {
    let day = day();
    let (first, _) = start(&day, limits(100, 4, 60), None);
    day.advance(HOUR);
    assert_eq!(first.count_admitted(&team("ada", "red"), 9).await, 4);
    let saved = first.save();
    day.advance(5 * HOUR);
    let (second, _) = start(&day, limits(100, 4, 60), Some(&saved));
    assert_eq!(second.count_admitted(&team("ada", "red"), 9).await, 2, "half of ten hours");
    // A clock that was set back between the processes refills nothing.
    day.set(Micros(EVENING));
    let (third, _) = start(&day, limits(100, 4, 60), Some(&saved));
    assert_eq!(third.count_admitted(&team("ada", "red"), 9).await, 0);
}

#[tokio::test]
async fn other_sizes_in_the_configuration_keep_what_was_spent() {
    let day = day();
    let (first, _) = start(&day, limits(10, 4, 6), None);
    assert_eq!(first.count_admitted(&team("ada", "red"), 9).await, 4);
    let saved = first.save();
    let (larger, _) = start(&day, limits(20, 7, 9), Some(&saved));
    assert_eq!(larger.count_admitted(&team("ada", "red"), 9).await, 3, "seven less the four that are spent");
    assert_eq!(larger.count_admitted(&team("bob", "red"), 9).await, 2, "nine of the team less seven");
    let again = larger.save();
    let (smaller, _) = start(&day, limits(20, 5, 9), Some(&again));
    assert_eq!(smaller.count_admitted(&team("ada", "blue"), 9).await, 0, "five less seven");
    assert_eq!(smaller.count_admitted(&team("cy", "blue"), 9).await, 5);
    // A rule that is absent for one process keeps its levels.
    let (without, _) = start(&day, LimitPolicy::default(), Some(&smaller.save()));
    let (back, _) = start(&day, limits(20, 5, 9), Some(&without.save()));
    assert_eq!(back.count_admitted(&team("cy", "blue"), 9).await, 0);
}

#[tokio::test]
async fn quotas_and_overrides_are_taken_over() {
    let calendar = Calendar::new(PeriodUnit::Day, "Europe/Berlin", "00:00").unwrap();
    let daily = Window::by_calendar(3, Arc::new(calendar)).unwrap();
    let gold = Override {
        selector: CallerSelector::Claim { claim: "team".into(), value: Some("gold".into()) },
        size: LimitSize::Windows(quota(9, 36_000).unwrap().windows),
    };
    let both = Quota { windows: vec![daily], overrides: Overrides::new(vec![gold]), ..quota(1, 1).unwrap() };
    let limits =
        || policy(Limits { per_user: Some(both.clone()), ..Limits::default() }, vec![], Anonymous::Refuse);
    let day = day();
    let (first, _) = start(&day, limits(), None);
    assert_eq!(first.count_admitted(&team("ada", "tin"), 2).await, 2);
    assert_eq!(first.count_admitted(&team("bob", "gold"), 5).await, 5);
    let saved = first.save();
    day.advance(HOUR);
    let (second, _) = start(&day, limits(), Some(&saved));
    assert_eq!(second.count_admitted(&team("ada", "tin"), 9).await, 1);
    assert_eq!(second.count_admitted(&team("bob", "gold"), 9).await, 4);
    let saved = second.save();
    day.advance(5 * HOUR);
    let (third, _) = start(&day, limits(), Some(&saved));
    assert_eq!(third.count_admitted(&team("ada", "tin"), 9).await, 3, "the next day");
    day.advance(72 * HOUR);
    assert!(start(&day, limits(), Some(&third.save())).0.limiter.save().unwrap().users.is_empty());
}

/// What a user has spent is restored after any number of restarts, also if the user made no call in between.
#[tokio::test]
async fn a_size_that_changes_is_known_over_several_restarts() {
    let day = day();
    let (first, _) = start(&day, limits(100, 9, 60), None);
    assert_eq!(first.count_admitted(&team("ada", "red"), 20).await, 9);
    let mut saved = first.save();
    for each in [8, 7, 6, 7] {
        let (next, _) = start(&day, limits(100, each, 60), Some(&saved));
        assert_eq!(next.count_admitted(&team("bob", "red"), 1).await, 1);
        saved = next.save();
    }
    let (last, _) = start(&day, limits(100, 11, 60), Some(&saved));
    assert_eq!(last.count_admitted(&team("ada", "red"), 20).await, 2, "eleven less nine");
    assert_eq!(last.count_admitted(&team("bob", "red"), 20).await, 7, "eleven less four");
}

/// Overrides are added, removed and reordered.
#[tokio::test]
async fn overrides_that_change_keep_what_was_spent() {
    let of = |name: &str, tokens: u64| Override {
        selector: CallerSelector::Claim { claim: "team".into(), value: Some(name.into()) },
        size: LimitSize::Windows(quota(tokens, 36_000).unwrap().windows),
    };
    let limits = |overrides: Vec<Override>| {
        let sized = Quota { overrides: Overrides::new(overrides), ..quota(3, 36_000).unwrap() };
        let limit = ValueQuota {
            source: ValueSource::Claim("team".into()),
            missing: MissingValue::Shared,
            list_handling: ListHandling::Each,
            quota: sized.clone(),
        };
        let server = Limits { per_user: Some(sized), per_value: vec![limit], ..Limits::default() };
        policy(server, vec![], Anonymous::Refuse)
    };
    let day = day();
    let red = team("ada", "red");
    let (first, _) = start(&day, limits(vec![of("red", 5)]), None);
    assert_eq!(first.count_admitted(&red, 9).await, 5);
    let saved = first.save();
    for (overrides, left) in [
        (vec![of("blue", 7), of("red", 5)], 0),
        (vec![of("blue", 7), of("red", 6)], 1),
        (vec![], 0),
        (vec![of("blue", 7)], 0),
    ] {
        let (next, _) = start(&day, limits(overrides), Some(&saved));
        assert_eq!(next.count_admitted(&red, 9).await, left);
    }
    let (second, _) = start(&day, limits(vec![]), None);
    assert_eq!(second.count_admitted(&red, 9).await, 3);
    let (third, _) = start(&day, limits(vec![of("red", 5)]), Some(&second.save()));
    assert_eq!(third.count_admitted(&red, 9).await, 2);
}

/// Only buckets that are not full are saved.
#[tokio::test]
async fn full_buckets_leave_no_definition() {
    let day = day();
    let (first, _) = start(&day, limits(100, 9, 60), None);
    assert_eq!(first.count_admitted(&team("ada", "red"), 1).await, 1);
    assert!(!first.limiter.save().unwrap().buckets.is_empty());
    day.advance(48 * HOUR);
    let levels = first.limiter.save().unwrap();
    assert!(levels.buckets.is_empty() && levels.users.is_empty(), "{levels:?}");
}

#[tokio::test]
async fn users_for_whom_there_is_no_room_are_told() {
    let day = day();
    let (first, _) = start(&day, limits(1000, 4, 600), None);
    for number in 0..20 {
        first.count_admitted(&team(&number.to_string(), "red"), 1).await;
    }
    let memory = MemoryBounds { user_count_max: 15, overflow: Overflow::Refuse };
    let smaller = LimitPolicy { memory, ..limits(1000, 4, 600) };
    let (second, left_out) = start(&day, smaller, Some(&first.save()));
    assert_eq!((second.limiter.user_count(), left_out), (15, 5));
}
