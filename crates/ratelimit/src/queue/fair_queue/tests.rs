use proptest::prelude::*;

use super::*;

fn user(number: u64) -> UserKey {
    UserKey::new(u128::from(number) + 10)
}

/// Serves all calls and returns their tickets, in order.
fn drain_tickets(queue: &mut FairQueue) -> Vec<u64> {
    std::iter::from_fn(|| queue.pop()).map(|(ticket, _)| ticket.0).collect()
}

#[test]
fn users_take_turns_and_each_line_keeps_its_order() {
    let mut queue = FairQueue::default();
    for ticket in 0..5 {
        queue.push(user(1), Ticket(ticket), 1, false);
    }
    queue.push(user(2), Ticket(10), 1, false);
    queue.push(user(3), Ticket(11), 1, false);
    queue.push(user(2), Ticket(12), 1, false);
    assert_eq!(drain_tickets(&mut queue), [0, 10, 11, 1, 12, 2, 3, 4]);
}

#[test]
fn a_dear_call_counts_as_many_cheap_ones() {
    let mut queue = FairQueue::default();
    queue.push(user(1), Ticket(0), 3, false);
    queue.push(user(1), Ticket(1), 3, false);
    for ticket in 2..8 {
        queue.push(user(2), Ticket(ticket), 1, false);
    }
    // Of two calls with the same finish time the older one comes first.
    assert_eq!(drain_tickets(&mut queue), [2, 3, 0, 4, 5, 6, 1, 7]);
}

#[test]
fn who_comes_late_saves_up_nothing() {
    let mut queue = FairQueue::default();
    for ticket in 0..100 {
        queue.push(user(1), Ticket(ticket), 1, false);
    }
    for _ in 0..50 {
        queue.pop();
    }
    queue.push(user(2), Ticket(200), 1, false);
    queue.push(user(2), Ticket(201), 1, false);
    queue.push(user(2), Ticket(202), 1, false);
    assert_eq!(&drain_tickets(&mut queue)[..6], [50, 200, 51, 201, 52, 202]);
}

#[test]
fn a_turn_that_came_to_nothing_is_given_back() {
    let mut queue = FairQueue::default();
    for ticket in 0..3 {
        queue.push(user(1), Ticket(ticket), 1, false);
        queue.push(user(2), Ticket(10 + ticket), 1, false);
    }
    assert_eq!(queue.pop(), Some((Ticket(0), 1)));
    queue.push(user(1), Ticket(0), 1, true);
    assert_eq!(drain_tickets(&mut queue), [0, 10, 1, 11, 2, 12]);
}

proptest! {
    /// For all sequences of operations: the forecast cost ahead of a call is the cost that is served before
    /// it, and every call is served once. Two users who both wait are never further apart than their most
    /// expensive calls.
    #[test]
    fn the_forecast_is_what_happens(steps in proptest::collection::vec((0..4_u64, 1..6_u32, 0..5_u8), 1..80)) {
        let mut queue = FairQueue::default();
        let mut waiting: Vec<(UserKey, Ticket, u32)> = Vec::new();
        for (number, (who, cost, action)) in steps.into_iter().enumerate() {
            let ticket = Ticket(number as u64);
            match action {
                0 => {
                    let gone = queue.pop().map(|(ticket, _)| ticket);
                    waiting.retain(|(_, other, _)| Some(*other) != gone);
                }
                1 if !waiting.is_empty() => {
                    let (owner, other, _) = waiting.swap_remove(who as usize % waiting.len());
                    queue.remove(owner, other);
                }
                _ => {
                    queue.push(user(who), ticket, cost, false);
                    waiting.push((user(who), ticket, cost));
                }
            }
        }
        prop_assert_eq!(queue.cost(), waiting.iter().map(|(_, _, cost)| u64::from(*cost)).sum::<u64>());
        let told: HashMap<Ticket, u64> = waiting
            .iter()
            .map(|(owner, ticket, cost)| (*ticket, queue.cost_ahead(*owner, Some(*ticket), *cost)))
            .collect();
        let dearest = waiting.iter().map(|(_, _, cost)| u64::from(*cost)).max().unwrap_or(0);
        let mut got: HashMap<UserKey, u64> = HashMap::new();
        let mut before = 0;
        while let Some((ticket, cost)) = queue.pop() {
            // The forecast counts calls with the same finish time as if they came first; only their age
            // decides the order.
            let told = told[&ticket];
            prop_assert!(told >= before && told - before <= 4 * dearest, "{told} told, {before} served");
            let owner = waiting.iter().find(|(_, other, _)| *other == ticket).unwrap().0;
            before += u64::from(cost);
            *got.entry(owner).or_default() += u64::from(cost);
            waiting.retain(|(_, other, _)| *other != ticket);
        }
        prop_assert!(waiting.is_empty());
        prop_assert!(queue.is_empty() && queue.user_queues.is_empty() && queue.cost() == 0);
    }
}
