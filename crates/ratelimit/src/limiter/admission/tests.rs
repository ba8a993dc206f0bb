//! Waiting, with tokio's paused time: every wait here is exact to the millisecond, which is the resolution of
//! the timer.

mod fairness;
pub(crate) mod harness;
mod slots;
mod stores;

use std::num::NonZeroU32;
use std::time::Duration;

use vmcp_domain::Retry;

use super::*;
use crate::limiter::admission::tests::harness::{
    Harness, ProgressClient, quota, rule, seconds, virtual_tool,
};
use crate::plan::policy::{Concurrency, Limits, WaitBounds};

/// One bucket for all callers, and how long calls wait for it.
fn shared(tokens: u64, period: u64, wait: u64) -> Limits {
    Limits { shared: quota(tokens, period), wait_max: seconds(wait), ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_exactly_as_long_as_it_must() {
    let harness = Harness::new(shared(1, 10, 10), vec![]);
    assert_eq!(harness.call("a", "t").await, Ok(seconds(0)));
    tokio::time::sleep(seconds(4)).await;
    assert_eq!(harness.call("b", "t").await, Ok(seconds(6)));
    assert_eq!(harness.limiter.waiting_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_would_come_too_late_is_refused_at_once() {
    let harness = Harness::new(shared(1, 10, 25), vec![]);
    harness.call("a", "t").await.unwrap();
    let (b, c) = (harness.start("b", "t").await, harness.start("c", "t").await);
    let begun = tokio::time::Instant::now();
    // The next token is taken, and the one after it: the third comes in half a minute.
    assert_eq!(harness.call("d", "t").await, Err(Retry::After(seconds(30))));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!((b.await.unwrap(), c.await.unwrap()), (Ok(seconds(10)), Ok(seconds(20))));
    let nobody = Harness::new(shared(1, 10, 9), vec![]);
    nobody.call("a", "t").await.unwrap();
    assert_eq!(nobody.call("b", "t").await, Err(Retry::After(seconds(10))), "with nobody before it");
    let without = Harness::new(shared(1, 10, 0), vec![]);
    without.call("a", "t").await.unwrap();
    assert_eq!(without.call("b", "t").await, Err(Retry::After(seconds(10))), "where nobody waits");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_nothing_and_makes_room() {
    let harness = Harness::new(shared(1, 10, 60), vec![]);
    harness.call("a", "t").await.unwrap();
    let leaves = harness.start("b", "t").await;
    let stays = harness.start("c", "t").await;
    assert_eq!(harness.limiter.waiting_count(), 2);
    tokio::time::sleep(seconds(3)).await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    assert_eq!(harness.limiter.waiting_count(), 1);
    assert_eq!(stays.await.unwrap(), Ok(seconds(10)), "the token that the other was to have");
    assert_eq!(harness.wait_outcomes.outcomes(), [WaitOutcome::Cancelled, WaitOutcome::Admitted]);
    assert_eq!(harness.call("d", "t").await, Ok(seconds(10)), "no other token was spent");
}

#[tokio::test(start_paused = true)]
async fn a_user_waits_in_order_and_nobody_overtakes() {
    let harness = Harness::new(shared(1, 1, 60), vec![]);
    harness.call("a", "t").await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(harness.start("b", "t").await);
    }
    // A token is there, but it belongs to the call that has waited longest.
    tokio::time::sleep(Duration::from_millis(999)).await;
    assert_eq!(harness.call("b", "t").await, Ok(Duration::from_millis(5001)));
    for (index, call) in waiting.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Ok(seconds(index as u64 + 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_tool_holds_up_no_other() {
    let tools = vec![rule("t", 1, shared(1, 60, 120))];
    let harness = Harness::new(shared(2, 1, 60), tools);
    harness.call("a", "t").await.unwrap();
    let mut stuck = Vec::new();
    for user in ["b", "c"] {
        stuck.push(harness.start(user, "t").await);
    }
    tokio::time::sleep(seconds(10)).await;
    for _ in 0..20 {
        // The server's bucket is contended now and then; it is never reserved for a call whose tool has no
        // tokens.
        assert!(harness.call("d", "u").await.unwrap() <= Duration::from_millis(500));
    }
    let waits: Vec<_> = [stuck.remove(0).await.unwrap(), stuck.remove(0).await.unwrap()].into();
    assert_eq!(waits, [Ok(seconds(60)), Ok(seconds(120))]);
}

#[tokio::test(start_paused = true)]
async fn the_strictest_rule_counts_and_all_pay_or_none() {
    // The rule of all callers allows a wait of a minute, the user's rule none.
    let tool = Limits { per_user: quota(1, 60), wait_max: seconds(0), ..Limits::default() };
    let harness = Harness::new(shared(1, 10, 60), vec![rule("t", 1, tool)]);
    harness.call("a", "t").await.unwrap();
    assert_eq!(harness.call("a", "t").await, Err(Retry::After(seconds(60))));
    let other = harness.start("b", "t").await;
    let begun = tokio::time::Instant::now();
    assert_eq!(
        harness.call("a", "t").await,
        Err(Retry::After(seconds(60))),
        "though others wait for the rest"
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(other.await.unwrap(), Ok(seconds(10)));
    assert_eq!(harness.call("a", "u").await, Ok(seconds(10)), "what was refused has paid nothing");
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_can_be_waited_for() {
    for concurrency in [
        Concurrency { shared: NonZeroU32::new(1), per_user: None, mode: Mode::Enforce },
        Concurrency { shared: None, per_user: NonZeroU32::new(1), mode: Mode::Enforce },
    ] {
        let limits = Limits { concurrency, wait_max: seconds(30), ..Limits::default() };
        let harness = Harness::new(limits, vec![]);
        let running = harness.start("a", "hang").await;
        let next = harness.start("a", "t").await;
        let second = harness.start("a", "hang").await;
        tokio::time::sleep(seconds(7)).await;
        assert_eq!(harness.limiter.waiting_count(), 2);
        running.abort();
        assert_eq!(next.await.unwrap(), Ok(seconds(7)), "as soon as the other ends");
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(harness.inner.hanging_count(), 1, "and the one after it, at once");
        // No call ends now; the wait times out.
        let begun = tokio::time::Instant::now();
        assert_eq!(harness.call("a", "t").await, Err(Retry::WhenReleased));
        assert_eq!(begun.elapsed(), seconds(30));
        second.abort();
        let _ = second.await;
        assert_eq!(harness.call("a", "t").await, Ok(seconds(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_room_is_bounded_for_each_and_for_all() {
    let bounds = WaitBounds { count_max: 3, per_user_count_max: 2 };
    let harness = Harness::with_wait_bounds(shared(1, 1, 60), vec![], bounds);
    harness.call("a", "t").await.unwrap();
    let mut waiting = vec![harness.start("a", "t").await, harness.start("a", "t").await];
    assert_eq!(harness.call("a", "t").await, Err(Retry::After(seconds(3))), "a user has two");
    waiting.push(harness.start("b", "t").await);
    assert_eq!(harness.call("c", "t").await, Err(Retry::After(seconds(3))), "three altogether");
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert_eq!(harness.limiter.waiting_count(), 0);
    assert_eq!(harness.call("a", "t").await, Ok(seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_deadline_is_the_shorter_bound() {
    let harness = Harness::new(shared(1, 10, 60), vec![]);
    harness.call("a", "t").await.unwrap();
    let mut ctx = harness.context("b");
    ctx.deadline = Some(Instant::now() + seconds(5));
    assert_eq!(harness.call_as(&ctx, "t").await, Err(Retry::After(seconds(10))));
}

#[tokio::test(start_paused = true)]
async fn a_refund_lets_the_next_go_early() {
    let harness = Harness::new(shared(1, 100, 200), vec![]);
    let tools = harness.gateway.list_tools(&harness.context("a")).await.unwrap();
    let tool_plan = harness.limiter.tool_plan(&tools, &"t".into()).unwrap();
    let ctx = harness.context("a");
    let permit = harness.limiter.admit(&tool_plan, &ctx).await.unwrap();
    let waiting = harness.start("b", "t").await;
    tokio::time::sleep(seconds(2)).await;
    permit.refund("backend_unavailable").await;
    assert_eq!(waiting.await.unwrap(), Ok(seconds(2)));
}

#[tokio::test(start_paused = true)]
async fn what_can_be_waited_for_is_foreseen_to_pass() {
    for (wait, foreseen) in [(10, None), (9, Some(Retry::After(seconds(10))))] {
        let harness = Harness::new(shared(1, 10, wait), vec![]);
        harness.call("a", "t").await.unwrap();
        let ctx = harness.context("b");
        let tools = harness.gateway.list_tools(&ctx).await.unwrap();
        let limit = harness.limiter.check_availability(&tools, &"t".into(), &ctx).await.unwrap();
        assert_eq!(limit.map(|limit| limit.retry), foreseen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_for_a_virtual_tool_and_then_for_a_real_one_is_told_in_order() {
    let tools = vec![rule("call_tool", 1, shared(1, 4, 60))];
    let harness = Harness::new(shared(1, 12, 60), tools);
    let outer = crate::layer::VirtualRateLimited::wrap(
        harness.gateway.clone(),
        harness.limiter.clone(),
        &[virtual_tool("call_tool")],
        crate::layer::FailureCharge::Charged,
    );
    harness.call("a", "t").await.unwrap();
    let mut ctx = harness.context("b");
    let client = ProgressClient::wanting_progress();
    ctx.client = client.clone();
    // The virtual layer's tool is not a tool of the inner gateway here, so the two waits are made one after
    // the other.
    for _ in 0..2 {
        let _ = outer.call_tool(&ctx, vmcp_testkit::conformance::tool_call("call_tool")).await;
    }
    assert_eq!(harness.call_as(&ctx, "t").await, Ok(seconds(8)));
    let told = client.progress_messages();
    let rules: Vec<&str> = told.iter().filter_map(|(_, message)| message.split([' ', ',']).nth(4)).collect();
    assert_eq!(rules[..2], ["tools[call_tool].shared"; 2]);
    assert_eq!(rules[2..], ["shared"; 3]);
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asked_hears_how_its_call_waits() {
    let harness = Harness::new(shared(1, 20, 60), vec![]);
    harness.call("a", "t").await.unwrap();
    let mut ctx = harness.context("b");
    let client = ProgressClient::wanting_progress();
    ctx.client = client.clone();
    assert_eq!(harness.call_as(&ctx, "t").await, Ok(seconds(20)));
    let told = client.progress_messages();
    let messages: Vec<&str> = told.iter().map(|(_, message)| message.as_str()).collect();
    let about = |left: u64| format!("waiting for rate limit shared, about {left} s");
    assert_eq!(messages, [about(19), about(17), about(14), about(10), about(5)]);
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
    assert!(told.iter().all(|(value, _)| *value < 0.0), "below whatever the backend reports: {told:?}");
    assert!(harness.call("c", "t").await.is_ok(), "who did not ask is told nothing");
    assert_eq!(client.progress_messages().len(), 5);
}
