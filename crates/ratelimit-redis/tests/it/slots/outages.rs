//! A replica that is stopped, and a server that loses its data: running calls cannot be undone, and none is
//! admitted on top of them.

use std::time::Duration;

use rustix::process::Signal;

use super::fleet::{COUNT_MAX, Event, Fleet, LEASE, in_flight, in_flight_max, machine_now};
use crate::server::{Server, ServerKind};

crate::on_both!(slow:
    a_replica_that_stood_still_admits_nobody_on_top,
    a_server_that_forgot_everything_is_told_first,
    a_server_that_hangs_lets_nobody_in,
);

/// Asserts that every call admitted after a moment had a free slot, counting all calls in flight.
fn check_no_admission_above_limit(events: &[Event], after: u64) {
    let late = in_flight(events).into_iter().filter(|(event, _)| event.begins && event.at > after);
    for (event, count) in late {
        assert!(
            count <= COUNT_MAX,
            "{count} in flight {} ms later, by {}",
            (event.at - after) / 1000,
            event.worker
        );
    }
}

async fn a_replica_that_stood_still_admits_nobody_on_top(kind: ServerKind) {
    let server = Server::start(kind).await;
    let mut fleet = Fleet::new();
    let still = fleet.spawn(&server, "callers=3 stay=9000 run=8000");
    fleet.wait_in_flight(still, 3).await;
    let others = [0, 1].map(|_| fleet.spawn(&server, "callers=4 stay=700 run=12000"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stopped = machine_now();
    fleet.signal(still, Signal::STOP);
    tokio::time::sleep(LEASE * 2).await;
    fleet.signal(still, Signal::CONT);
    let resumed = machine_now();
    let events = fleet.wait_ended().await;
    // While it was stopped its slots were granted to other replicas, and no more than these.
    let moving: Vec<Event> = events.iter().copied().filter(|event| others.contains(&event.worker)).collect();
    assert_eq!(in_flight_max(&moving, stopped, resumed), COUNT_MAX, "its slots were of use to others");
    assert!(
        in_flight_max(&events, 0, u64::MAX) > COUNT_MAX,
        "what it had begun still ran, so the test tests something"
    );
    check_no_admission_above_limit(&events, resumed + 500_000);
    check_no_admission_above_limit(
        &events.iter().copied().filter(|event| event.at < stopped).collect::<Vec<_>>(),
        0,
    );
}

async fn a_server_that_forgot_everything_is_told_first(kind: ServerKind) {
    let mut server = Server::start(kind).await;
    let mut fleet = Fleet::new();
    let holder = fleet.spawn(&server, "callers=4 stay=6000 run=5000");
    fleet.wait_in_flight(holder, 4).await;
    let begun = machine_now();
    let others = [0, 1].map(|_| fleet.spawn(&server, "callers=4 stay=300 run=6500"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    server.restart().await;
    let events = fleet.wait_ended().await;
    assert_eq!(in_flight_max(&events, 0, u64::MAX), COUNT_MAX, "nobody is admitted before it has been told");
    let on_top = |event: &&Event| {
        event.begins && others.contains(&event.worker) && (begun..begun + 5_500_000).contains(&event.at)
    };
    assert_eq!(events.iter().filter(on_top).count(), 0, "the holder's calls count all the time");
    let held_until = begun + 5_500_000;
    assert!(events.iter().any(|event| event.begins && event.at > held_until), "until they end");
}

async fn a_server_that_hangs_lets_nobody_in(kind: ServerKind) {
    let server = Server::start(kind).await;
    let mut fleet = Fleet::new();
    for _ in 0..3 {
        fleet.spawn(&server, "callers=4 stay=20 run=4000");
    }
    fleet.wait_begun().await;
    let mut pauses = Vec::new();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.signal(Signal::STOP);
        let stopped = machine_now();
        tokio::time::sleep(Duration::from_millis(600)).await;
        pauses.push((stopped + 50_000, machine_now()));
        server.signal(Signal::CONT);
    }
    let events = fleet.wait_ended().await;
    assert!(in_flight_max(&events, 0, u64::MAX) <= COUNT_MAX);
    for (from, until) in pauses {
        let begun = events.iter().filter(|event| event.begins && (from..until).contains(&event.at));
        assert_eq!(begun.count(), 0, "admission is the server's word");
    }
    assert!(events.len() > 200, "{} events", events.len());
}
