use std::sync::Arc;
use std::time::Duration;

use vmcp_domain::Identity;
use vmcp_json::{Json, Members};
use vmcp_wire::server::Refusal;

use super::session_table::SessionGuard;
use super::*;
use crate::policy::EdgeLimits;
use crate::sessions::session_table::EVICTION_SEARCH_INTERVAL_MS;

fn known(issuer: &str, subject: &str) -> Caller {
    Caller::Known(Arc::new(Identity {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        claims: [("at".to_owned(), Json::string("now"))].into_iter().collect::<Members>(),
    }))
}

fn client(caller: Caller) -> SessionClient {
    SessionClient {
        caller,
        version: ProtocolVersion::V2025_11_25,
        capabilities: ClientCapabilities::default(),
    }
}

fn open(table: &SessionTable, caller: Caller) -> Result<String, Refusal> {
    let owner = CallerHash::of(&caller, None);
    let session = table.open(client(caller), owner, ListVersions::default())?;
    Ok(session.id())
}

fn table(count: usize, per_caller: usize, idle_s: u64) -> SessionTable {
    SessionTable::new(&EdgeLimits {
        session_count_max: count,
        sessions_per_caller_max: per_caller,
        session_idle_max: Duration::from_secs(idle_s),
        ..EdgeLimits::DEFAULT
    })
}

fn is_open(table: &SessionTable, name: &str) -> bool {
    table.find(name.as_bytes(), &Caller::Anonymous).is_ok()
}

#[tokio::test]
async fn another_caller_can_neither_use_nor_end_a_session() {
    let thieves = [known("local", "you"), known("elsewhere", "me"), Caller::Anonymous];
    for thief in thieves {
        let table = table(10, 1000, 60);
        let name = open(&table, known("local", "me")).unwrap();
        assert!(table.find(name.as_bytes(), &known("local", "me")).is_ok());
        let stolen = table.find(name.as_bytes(), &thief);
        assert_eq!(stolen.unwrap_err(), Refusal::SessionUnknown);
        assert!(table.find(name.as_bytes(), &known("local", "me")).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_end_when_idle_and_not_before() {
    let table = table(10, 1000, 60);
    let [idle, used, held] = [0; 3].map(|_| open(&table, Caller::Anonymous).unwrap());
    let session_guard = table.find(held.as_bytes(), &Caller::Anonymous).unwrap();
    tokio::time::advance(Duration::from_secs(40)).await;
    assert!(is_open(&table, &used));
    tokio::time::advance(Duration::from_secs(40)).await;
    table.sweep();
    assert!(!is_open(&table, &idle));
    assert!(is_open(&table, &used));
    tokio::time::advance(Duration::from_secs(1000)).await;
    table.sweep();
    assert!(is_open(&table, &held));
    drop(session_guard);
    tokio::time::advance(Duration::from_secs(61)).await;
    // An expired session is refused even before a sweep.
    assert!(!is_open(&table, &held));
}

#[tokio::test(start_paused = true)]
async fn a_full_table_makes_room_among_the_idle_only() {
    let table = table(2, 1000, 3600);
    let first = open(&table, Caller::Anonymous).unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    let second = open(&table, Caller::Anonymous).unwrap();
    assert_eq!(open(&table, Caller::Anonymous), Err(Refusal::SessionsFull));
    tokio::time::advance(Duration::from_secs(55)).await;
    let third = open(&table, Caller::Anonymous).unwrap();
    assert!(!is_open(&table, &first));
    assert!(is_open(&table, &second) && is_open(&table, &third));
}

#[tokio::test(start_paused = true)]
async fn one_callers_sessions_give_way_to_its_own_and_to_nobody_elses() {
    let table = table(100, 3, 3600);
    let others = open(&table, Caller::Anonymous).unwrap();
    let mut own = Vec::new();
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(1)).await;
        own.push(open(&table, known("local", "me")).unwrap());
    }
    let me = known("local", "me");
    let opened = own.iter().map(|name| table.find(name.as_bytes(), &me).is_ok());
    assert_eq!(opened.collect::<Vec<_>>(), [vec![false; 7], vec![true; 3]].concat());
    assert!(is_open(&table, &others));
    // Sessions in use are not evicted.
    let held: Vec<SessionGuard> =
        own[7..].iter().map(|name| table.find(name.as_bytes(), &me).unwrap()).collect();
    assert_eq!(open(&table, me.clone()), Err(Refusal::CallerSessionsFull));
    assert!(open(&table, Caller::Anonymous).is_ok());
    drop(held);
    tokio::time::advance(Duration::from_millis(EVICTION_SEARCH_INTERVAL_MS)).await;
    assert!(open(&table, me).is_ok());
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_all_in_use_are_searched_once_a_second() {
    let table = table(10, 2, 600);
    let me = known("local", "me");
    let names = [0; 2].map(|_| open(&table, me.clone()).unwrap());
    let session_guards = names.each_ref().map(|name| table.find(name.as_bytes(), &me).unwrap());
    assert_eq!(open(&table, me.clone()).unwrap_err(), Refusal::CallerSessionsFull);
    drop(session_guards);
    assert_eq!(open(&table, me.clone()).unwrap_err(), Refusal::CallerSessionsFull, "not searched again yet");
    assert!(open(&table, known("local", "you")).is_ok());
    tokio::time::advance(Duration::from_millis(EVICTION_SEARCH_INTERVAL_MS)).await;
    assert!(open(&table, me).is_ok());
}

#[tokio::test(start_paused = true)]
async fn streams_without_a_connection_wait_a_while_and_are_few() {
    let table = table(2, 1000, 3600);
    let owner = CallerHash::of(&Caller::Anonymous, None);
    let session = table.open(client(Caller::Anonymous), owner, ListVersions::default()).unwrap();
    let buffers: Vec<_> = (0..10)
        .map(|_| {
            let buffer = session.new_stream();
            session.add_stream(&buffer, None);
            buffer.push("x".into());
            buffer
        })
        .collect();
    for buffer in &buffers {
        session.detach_stream(buffer);
    }
    let event = |buffer: &EventBuffer| format!("{}-0", buffer.number);
    let found = buffers.iter().filter(|buffer| session.resume_stream(&event(buffer)).is_some());
    assert_eq!(found.count(), DETACHED_STREAMS_MAX);
    let last = buffers.last().unwrap();
    session.detach_stream(last);
    tokio::time::advance(Duration::from_secs(61)).await;
    table.sweep();
    assert!(session.resume_stream(&event(last)).is_none());
    for broken in ["", "1", "-", "x-y", "99999999999999999999-1"] {
        assert!(session.resume_stream(broken).is_none(), "{broken}");
    }
}

#[test]
fn an_idle_session_is_a_few_hundred_bytes() {
    let size = size_of::<Session>() + size_of::<InFlightRequests>() + size_of::<ClientCapabilities>();
    assert!(size <= 512, "{size}");
}
