use std::time::Duration;

use vmcp_domain::{BackendEvent, BackendState, Continuation, ListFailure, MalformedItem};
use vmcp_json::Members;
use vmcp_testkit::{FakeBackend, conformance, context, watch_changes};

use super::*;
use crate::health::report::Health;

fn start(backends: &[&Arc<FakeBackend>]) -> Federation {
    let backends = backends.iter().map(|backend| (*backend).clone() as Arc<dyn Backend>).collect();
    Federation::start(AggregationPolicy::default(), HealthPolicy::DEFAULT, backends)
}

async fn names(federation: &Federation) -> Vec<String> {
    let tools = federation.list_tools(&context()).await.unwrap();
    tools.iter().map(|tool| tool.name.to_string()).collect()
}

async fn reply_text(reply: Result<Reply, Error>) -> String {
    reply.unwrap().members.get("said").unwrap().decode_string().unwrap()
}

#[tokio::test(start_paused = true)]
async fn calls_reach_the_backend_that_really_has_the_tool() {
    let (a, b) =
        (FakeBackend::with_tools("a", &["read", "search"]), FakeBackend::with_tools("b", &["search"]));
    let federation = start(&[&a, &b]);
    assert_eq!(names(&federation).await, ["read", "a_search", "b_search"]);
    let ctx = context();
    assert_eq!(
        reply_text(federation.call_tool(&ctx, conformance::tool_call("b_search")).await).await,
        "b: call search"
    );
    assert_eq!(
        reply_text(federation.call_tool(&ctx, conformance::tool_call("read")).await).await,
        "a: call read"
    );
    assert!(matches!(
        federation.call_tool(&ctx, conformance::tool_call("search")).await,
        Err(Error::UnknownTool(name)) if name.as_str() == "search"
    ));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_at_start_appears_when_it_comes() {
    let (a, b) = (FakeBackend::with_tools("a", &["read"]), FakeBackend::with_tools("b", &["write"]));
    b.set_state(BackendState::Unavailable);
    let federation = start(&[&a, &b]);
    assert_eq!(names(&federation).await, ["read"]);
    let (_listener, mut changes) = watch_changes(&federation);
    b.set_state(BackendState::Ready);
    assert_eq!(changes.recv().await, Some("Tools for everyone".to_owned()));
    assert_eq!(names(&federation).await, ["read", "write"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_list_does_not_wait_for_a_backend_that_hangs_and_a_call_does() {
    let (a, b) = (FakeBackend::with_tools("a", &["read"]), FakeBackend::with_tools("b", &["write"]));
    b.set_state(BackendState::Connecting);
    let federation = start(&[&a, &b]);
    let (_listener, mut changes) = watch_changes(&federation);
    let began = Instant::now();
    let brief = CallContext { startup_wait: StartupWait::Brief, ..context() };
    let tools = federation.list_tools(&brief).await.unwrap();
    assert_eq!(tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["read"]);
    assert_eq!(began.elapsed(), HealthPolicy::DEFAULT.startup_wait);
    assert_eq!(changes.recv().await, Some("Tools for everyone".to_owned()));
    // The tool of the other backend is called before it is listed.
    let waits_for = |name: &str| CallContext { startup_wait: StartupWait::Tool(name.into()), ..context() };
    let (ctx, called) = (waits_for("write"), federation.clone());
    let call = tokio::spawn(async move { called.call_tool(&ctx, conformance::tool_call("write")).await });
    // A tool that is listed is not waited for.
    let now = Instant::now();
    let read = federation.call_tool(&waits_for("read"), conformance::tool_call("read")).await;
    assert_eq!((reply_text(read).await.as_str(), now.elapsed()), ("a: call read", Duration::ZERO));
    tokio::time::sleep(Duration::from_secs(3)).await;
    b.set_state(BackendState::Ready);
    assert_eq!(reply_text(call.await.unwrap()).await, "b: call write");
    assert_eq!(changes.recv().await, Some("Tools for everyone".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn saved_lists_are_served_until_the_backends_answer() {
    let (a, b) = (FakeBackend::with_tools("a", &["read", "new"]), FakeBackend::with_tools("b", &["write"]));
    a.set_saved_tools(&["read", "old"]);
    b.set_saved_tools(&["write"]);
    a.set_state(BackendState::Connecting);
    b.set_state(BackendState::Connecting);
    let federation = start(&[&a, &b]);
    let (_listener, mut changes) = watch_changes(&federation);
    let began = Instant::now();
    let brief = CallContext { startup_wait: StartupWait::Brief, ..context() };
    let tools = federation.list_tools(&brief).await.unwrap();
    assert_eq!(tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["read", "old", "write"]);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let stale = |federation: &Federation| {
        federation.reports().iter().map(|report| report.is_stale).collect::<Vec<_>>()
    };
    assert_eq!(stale(&federation), [true, true]);
    // A call of a saved tool waits for its backend only, and one of another tool for all.
    let ctx = CallContext { startup_wait: StartupWait::Tool("new".into()), ..context() };
    let called = federation.clone();
    let call = tokio::spawn(async move { called.call_tool(&ctx, conformance::tool_call("new")).await });
    a.set_state(BackendState::Ready);
    assert_eq!(reply_text(call.await.unwrap()).await, "a: call new");
    assert_eq!(stale(&federation), [false, true]);
    assert_eq!(changes.recv().await, Some("Tools for everyone".to_owned()));
    // A backend that is away is not listed, whatever was saved.
    b.set_state(BackendState::Unavailable);
    assert_eq!(changes.recv().await, Some("Tools for everyone".to_owned()));
    assert_eq!(names(&federation).await, ["read", "new"]);
}

#[tokio::test(start_paused = true)]
async fn equal_lists_after_the_start_are_no_change() {
    let a = FakeBackend::with_tools("a", &["read"]);
    a.set_saved_tools(&["read"]);
    a.set_state(BackendState::Connecting);
    let federation = start(&[&a]);
    let (_listener, mut changes) = watch_changes(&federation);
    let brief = CallContext { startup_wait: StartupWait::Brief, ..context() };
    let before = federation.list_tools(&brief).await.unwrap();
    a.set_state(BackendState::Ready);
    federation.wait_for_discovery().await;
    assert!(Arc::ptr_eq(&before, &federation.list_tools(&context()).await.unwrap()));
    assert!(changes.try_recv().is_err(), "the list is as it was");
}

#[tokio::test(start_paused = true)]
async fn a_short_absence_changes_no_list_and_a_long_one_moves_no_name() {
    let (a, b) = (FakeBackend::with_tools("a", &["search"]), FakeBackend::with_tools("b", &["search"]));
    let federation = start(&[&a, &b]);
    assert_eq!(names(&federation).await, ["a_search", "b_search"]);
    let (_listener, mut changes) = watch_changes(&federation);
    b.set_state(BackendState::Unavailable);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(names(&federation).await, ["a_search", "b_search"]);
    let refused = federation.call_tool(&context(), conformance::tool_call("b_search")).await;
    assert!(matches!(refused, Err(Error::BackendUnavailable { .. })));
    b.set_state(BackendState::Ready);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(changes.try_recv().is_err(), "nobody is bothered by a restart");
    b.set_state(BackendState::Unavailable);
    assert_eq!(changes.recv().await, Some("Tools for everyone".to_owned()));
    assert_eq!(names(&federation).await, ["a_search"], "the one that stays keeps its name");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_ends_in_the_latest_list() {
    let a = FakeBackend::with_tools("a", &["t0"]);
    let federation = start(&[&a]);
    assert_eq!(names(&federation).await, ["t0"]);
    let (_listener, mut changes) = watch_changes(&federation);
    for round in 1..=1000 {
        a.set_tools(&[&format!("t{round}")]);
        a.emit(BackendEvent::ToolsChanged);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&federation).await, ["t1000"]);
    let mut told = 0;
    while changes.try_recv().is_ok() {
        told += 1;
    }
    assert!((1..=2).contains(&told), "1000 events were told {told} times");
}

#[tokio::test(start_paused = true)]
async fn a_storm_without_end_is_answered_at_a_bounded_pace() {
    let a = FakeBackend::with_tools("a", &["t0"]);
    let federation = start(&[&a]);
    assert_eq!(names(&federation).await, ["t0"]);
    let before = a.inventory_count();
    // Ten notifications a millisecond, 100,000 in ten seconds of paused time.
    for round in 1..=10_000 {
        a.set_tools(&[&format!("t{round}")]);
        for _ in 0..10 {
            a.emit(BackendEvent::ToolsChanged);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let asked = a.inventory_count() - before;
    assert!((2..=101).contains(&asked), "asked {asked} times");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&federation).await, ["t10000"]);
    assert!(a.inventory_count() - before <= asked + 1);
}

#[tokio::test(start_paused = true)]
async fn resources_go_to_who_lists_them_then_to_templates() {
    let (a, b) = (FakeBackend::new("b-first"), FakeBackend::new("a-second"));
    a.set_resources(&["doc://1", "doc://2"], &["doc://{id}/raw"]);
    b.set_resources(&["doc://2", "doc://3"], &["file:///{+path}"]);
    let federation = start(&[&a, &b]);
    let ctx = context();
    let listed: Vec<String> = federation
        .list_resources(&ctx)
        .await
        .unwrap()
        .iter()
        .map(|one| format!("{}={}", one.uri, one.backend))
        .collect();
    assert_eq!(listed, ["doc://1=b-first", "doc://2=a-second", "doc://3=a-second"]);
    for (uri, backend) in [("doc://2", "a-second"), ("doc://9/raw", "b-first"), ("file:///a/b", "a-second")] {
        let request =
            ReadResource { uri: uri.into(), continuation: Continuation::default(), extra: Members::new() };
        assert_eq!(
            reply_text(federation.read_resource(&ctx, request).await).await,
            format!("{backend}: read {uri}")
        );
    }
    let request = ReadResource {
        uri: "other://x".into(),
        continuation: Continuation::default(),
        extra: Members::new(),
    };
    assert!(matches!(federation.read_resource(&ctx, request).await, Err(Error::UnknownResource(_))));
}

#[tokio::test(start_paused = true)]
async fn only_the_owner_speaks_for_a_resource() {
    let (a, b) = (FakeBackend::new("a"), FakeBackend::new("b"));
    a.set_resources(&["doc://1"], &[]);
    b.set_resources(&["doc://2"], &[]);
    let federation = start(&[&a, &b]);
    federation.wait_for_discovery().await;
    let (_listener, mut changes) = watch_changes(&federation);
    b.emit(BackendEvent::ResourceUpdated("doc://1".into()));
    a.emit(BackendEvent::ResourceUpdated("doc://1".into()));
    assert_eq!(changes.recv().await, Some("doc://1 for everyone".to_owned()));
    assert!(changes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn workers_end_with_the_federation() {
    let a = FakeBackend::with_tools("a", &["t"]);
    let federation = start(&[&a]);
    federation.wait_for_discovery().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shared = Arc::downgrade(&federation.state);
    drop(federation);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(shared.strong_count(), 0);
    assert_eq!(Arc::strong_count(&a), 1, "nobody holds the backend any more");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_not_announced_is_found_by_the_next_check() {
    let a = FakeBackend::with_tools("a", &["old"]);
    let federation = start(&[&a]);
    assert_eq!(names(&federation).await, ["old"]);
    a.set_tools(&["new"]);
    tokio::time::sleep(HealthPolicy::DEFAULT.interval * 2).await;
    assert_eq!(names(&federation).await, ["new"]);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_answers_at_once() {
    let a = FakeBackend::with_tools("a", &["t"]);
    let health = HealthPolicy {
        breaker: Some(crate::policy::BreakerPolicy { failure_threshold: 1, timeout: Duration::from_secs(5) }),
        ..HealthPolicy::DEFAULT
    };
    let federation = Federation::start(AggregationPolicy::default(), health, vec![a.clone()]);
    federation.wait_for_discovery().await;
    a.set_state(BackendState::Unavailable);
    let call = || async { federation.call_tool(&context(), conformance::tool_call("t")).await };
    let cause = |outcome: Result<Reply, Error>| outcome.unwrap_err().cause().unwrap().for_log().to_owned();
    assert_eq!(cause(call().await), "down by script");
    assert_eq!(cause(call().await), "circuit open");
    a.set_state(BackendState::Ready);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(call().await.is_ok() && call().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn backends_that_never_answer_do_not_hold_up_the_others() {
    let mut backends: Vec<_> = (0..3 * crate::health::timing::DISCOVERY_COUNT_MAX)
        .map(|number| FakeBackend::with_tools(&format!("mute{number}"), &["never"]))
        .collect();
    for mute in &backends {
        mute.set_state(BackendState::Connecting);
    }
    backends.push(FakeBackend::with_tools("a", &["read"]));
    let federation = start(&backends.iter().collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(federation.reports().last().unwrap().is_listed);
}

#[tokio::test(start_paused = true)]
async fn very_many_resources_are_merged_in_good_time() {
    let uris: Vec<String> = (0..100_000).map(|number| format!("r://{number}")).collect();
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let a = FakeBackend::new("a");
    a.set_resources(&uris, &uris);
    let begun = std::time::Instant::now();
    let federation = start(&[&a]);
    let listed = federation.list_resource_templates(&context()).await.unwrap().len();
    assert_eq!((listed, federation.list_resources(&context()).await.unwrap().len()), (100_000, 100_000));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_task_is_asked_for_at_the_backend_whose_tool_it_came_from() {
    let (a, b) =
        (FakeBackend::with_tools("a", &["read", "search"]), FakeBackend::with_tools("b", &["search"]));
    let federation = start(&[&a, &b]);
    let about = |backend: &str, tool: &str| vmcp_domain::TaskRequest {
        operation: vmcp_domain::TaskOperation::Cancel,
        handle: TaskHandle { backend: backend.into(), tool: tool.into(), id: "7".to_owned() },
        extra: Members::new(),
    };
    let ctx = context();
    assert_eq!(reply_text(federation.task(&ctx, about("b", "b_search")).await).await, "b: Cancel task 7");
    for (backend, tool) in [("a", "b_search"), ("b", "gone"), ("c", "read")] {
        let outcome = federation.task(&ctx, about(backend, tool)).await;
        assert!(matches!(outcome, Err(Error::UnknownTask)), "{backend} {tool}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_tool_of_a_backend_that_is_away_is_unavailable_and_its_connection_is_remade() {
    let (a, b) = (FakeBackend::with_tools("a", &["read"]), FakeBackend::with_tools("b", &["write"]));
    let federation = start(&[&a, &b]);
    assert_eq!(names(&federation).await, ["read", "write"]);
    b.set_state(BackendState::Unavailable);
    b.fail_inventory(true);
    tokio::time::sleep(HealthPolicy::DEFAULT.interval * 5).await;
    assert_eq!(names(&federation).await, ["read"]);
    let ctx = context();
    let outcome = federation.call_tool(&ctx, conformance::tool_call("write")).await;
    assert!(matches!(outcome, Err(Error::BackendUnavailable { .. })), "{outcome:?}");
    let outcome = federation.call_tool(&ctx, conformance::tool_call("never")).await;
    assert!(matches!(outcome, Err(Error::UnknownTool(_))), "{outcome:?}");
    assert!(b.reconnect_count() >= 1 && a.reconnect_count() == 0);
    let reports = federation.reports();
    assert_eq!((reports[0].health(), reports[1].health()), (Health::Healthy, Health::Unhealthy));
    b.set_state(BackendState::Ready);
    tokio::time::sleep(HealthPolicy::DEFAULT.interval).await;
    let report = &federation.reports()[1];
    assert_eq!(
        (report.health(), report.last_error()),
        (Health::Unhealthy, Some("status")),
        "its tools are not read"
    );
    b.fail_inventory(false);
    b.emit(BackendEvent::Connected);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&federation).await, ["read", "write"]);
    assert_eq!(federation.reports()[1].health(), Health::Healthy);
}

#[tokio::test(start_paused = true)]
async fn what_is_odd_or_fails_is_found_and_told() {
    let a = FakeBackend::with_tools("a", &["read"]);
    a.set_faults(
        vec![MalformedItem {
            list: "tools",
            item: "odd".to_owned(),
            is_omitted: true,
            text: "why".to_owned(),
        }],
        vec![ListFailure { list: "prompts", class: "protocol", cause: "the list is missing".to_owned() }],
    );
    let federation = start(&[&a]);
    assert_eq!(names(&federation).await, ["read"]);
    let findings: Vec<String> = federation.findings().iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "\"odd\" in `tools` of backend `a` is not offered: why",
            "`prompts` of backend `a` cannot be read and is as far as known before (protocol: the list is missing)",
        ]
    );
    let report = &federation.reports()[0];
    assert_eq!((report.health(), report.last_error()), (Health::Degraded, Some("protocol")));
}
