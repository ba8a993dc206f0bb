use std::time::Duration;

use super::*;

/// 400 ms: three quarters are 300 ms, and the pause after a short grant is 20 ms.
const LEASE: u64 = 400_000;
const LEASE_END: Micros = Micros(10 * LEASE);
const HELD_MAX: u64 = 100;

fn balance() -> LeaseBalance {
    LeaseBalance::new(LEASE, HELD_MAX)
}

fn take(balance: &mut LeaseBalance, now: Micros) -> TakeRequest {
    balance.begin_take(now, 1)
}

fn finish(balance: &mut LeaseBalance, request: TakeRequest, tokens: u64, now: Micros) {
    balance.finish_take(request, Ok(TakeGrant { tokens, level: 0, at: now }), LEASE_END, now);
}

/// A balance with these tokens, none of which were ever wanted.
fn holding(tokens: u64, now: Micros) -> LeaseBalance {
    let mut balance = balance();
    let request = take(&mut balance, now);
    finish(&mut balance, request, tokens, now);
    balance
}

fn rate() -> Rate {
    Rate::new(50, Duration::from_secs(1), 50).unwrap()
}

#[test]
fn a_take_is_pending_until_its_end() {
    let mut balance = balance();
    assert!(!balance.is_take_pending());
    let request = take(&mut balance, Micros(LEASE));
    assert!(balance.is_take_pending());
    finish(&mut balance, request, 1, Micros(LEASE));
    assert!(!balance.is_take_pending());
    assert_eq!(balance.take_count(), 1);
    take(&mut balance, Micros(2 * LEASE));
    balance.abort_take();
    assert!(!balance.is_take_pending());
    assert_eq!(balance.take_count(), 2);
    assert_eq!(balance.failure_since(1), Some(StoreFailure::Timeout));
    assert_eq!(balance.failure_since(2), None);
}

#[test]
fn a_take_is_useful_from_the_cheapest_waiting_call_on() {
    let mut balance = balance();
    balance.add_waiting(5);
    balance.add_waiting(3);
    let request = take(&mut balance, Micros(LEASE));
    assert_eq!((request.min_useful, request.need), (3, 8));
    balance.remove_waiting(5);
    assert_eq!(take(&mut balance, Micros(LEASE)).min_useful, 3);
    balance.remove_waiting(3);
    balance.add_waiting(7);
    assert_eq!(take(&mut balance, Micros(LEASE)).min_useful, 7);
}

#[test]
fn a_take_asks_for_half_of_what_three_quarters_of_a_lease_spend() {
    let mut balance = holding(90, Micros(LEASE));
    balance.spend(40, Micros(LEASE)).unwrap();
    // 40 tokens in 300 ms are 40 in three quarters of a lease; the estimate was 0 before.
    take(&mut balance, Micros(LEASE + 300_000));
    assert_eq!(balance.spend_estimate, 20);
    balance.spend(40, Micros(LEASE + 300_000)).unwrap();
    // 40 tokens in 150 ms are 80.
    take(&mut balance, Micros(LEASE + 450_000));
    assert_eq!(balance.spend_estimate, 50);
}

#[test]
fn a_balance_runs_low_below_half_of_the_estimate() {
    let now = Micros(LEASE + 300_000);
    let mut balance = holding(30, Micros(LEASE));
    balance.spend(20, Micros(LEASE)).unwrap();
    let request = take(&mut balance, now);
    assert_eq!((balance.spend_estimate, balance.available(now)), (10, 10));
    assert!(!balance.is_running_low(now), "a take is under way");
    finish(&mut balance, request, 0, now);
    assert!(!balance.is_running_low(now), "half of the estimate is 5");
    balance.spend(5, now).unwrap();
    assert!(!balance.is_running_low(now), "exactly half is left");
    balance.spend(1, now).unwrap();
    assert!(balance.is_running_low(now));
    // While a take is under way, no other begins.
    let request = take(&mut balance, now);
    assert!(!balance.is_running_low(now));
    // The bucket gave less than was wanted: no take ahead of need for 20 ms.
    assert!(request.want > 0);
    finish(&mut balance, request, 0, now);
    assert!(!balance.is_running_low(now.plus(19_999)));
    assert!(balance.is_running_low(now.plus(20_000)));
}

#[test]
fn an_estimate_of_one_token_takes_nothing_ahead() {
    let now = Micros(LEASE + 300_000);
    let mut balance = holding(4, Micros(LEASE));
    balance.spend(4, Micros(LEASE)).unwrap();
    let request = take(&mut balance, now);
    finish(&mut balance, request, 2, now);
    assert_eq!(balance.spend_estimate, 2);
    balance.spend(2, now).unwrap();
    assert!(balance.is_running_low(now), "an estimate of two does");
    let mut balance = holding(1, Micros(LEASE));
    balance.spend(1, Micros(LEASE)).unwrap();
    let request = take(&mut balance, now);
    finish(&mut balance, request, 1, now);
    balance.spend(1, now).unwrap();
    assert_eq!(balance.spend_estimate, 1);
    assert!(!balance.is_running_low(now));
}

#[test]
fn a_call_that_costs_the_whole_burst_can_wait() {
    let balance = balance();
    let now = Micros(LEASE);
    assert_eq!(balance.shortfall(50, now, &rate()), Shortfall::PendingTake(0));
    assert_eq!(balance.shortfall(51, now, &rate()), Shortfall::Wait(Wait::Never));
}

#[test]
fn a_grant_below_the_need_pauses_the_takes() {
    let now = Micros(LEASE);
    for (granted, paused) in [(3, true), (4, false), (5, false)] {
        let mut balance = balance();
        balance.add_waiting(4);
        let request = take(&mut balance, now);
        assert_eq!(request.need, 4);
        finish(&mut balance, request, granted, now);
        let waits = matches!(balance.shortfall(10, now, &rate()), Shortfall::Wait(_));
        assert_eq!(waits, paused, "{granted} tokens");
    }
}

#[test]
fn a_pause_lasts_half_a_short_lease_at_most() {
    let now = Micros(LEASE);
    let mut balance = LeaseBalance::new(6_000, HELD_MAX);
    balance.add_waiting(4);
    let request = take(&mut balance, now);
    finish(&mut balance, request, 0, now);
    let waits = |after: u64| matches!(balance.shortfall(4, now.plus(after), &rate()), Shortfall::Wait(_));
    assert!(waits(2_999));
    assert!(!waits(3_000));
}

#[test]
fn a_call_spends_the_oldest_tokens_first() {
    let now = Micros(LEASE);
    let mut balance = holding(2, now);
    let request = take(&mut balance, now);
    let grant = TakeGrant { tokens: 3, level: 0, at: now.plus(5) };
    balance.finish_take(request, Ok(grant), LEASE_END.plus(5), now);
    let first = balance.spend(2, now).unwrap();
    assert_eq!((first.expires_at, first.taken_at), (LEASE_END, now));
    let second = balance.spend(3, now).unwrap();
    assert_eq!((second.expires_at, second.taken_at), (LEASE_END.plus(5), now.plus(5)));
    assert!(balance.spend(1, now).is_none());
    assert_eq!(balance.spent_total(), 5);
}
