//! Limits on calls in flight across three real gateways. The backends write the start and end of each call
//! into one file, in the order of the events.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client, HttpClient, ProtocolFamily, refusal_code};
use vmcp_e2e::process::{Process, binary, fixture, run};
use vmcp_e2e::redis::Redis;
use vmcp_e2e::wait;

/// The limit on calls in flight.
const COUNT_MAX: usize = 3;
const LEASE: Duration = Duration::from_secs(3);

/// The configuration of a gateway. Each has its own backend, and all backends write into one journal.
fn configured(redis: &Redis, journal: &Path, index: usize) -> anyhow::Result<String> {
    let words = ["echo", "--instance", &index.to_string(), "--journal", &journal.to_string_lossy()];
    let limits = format!(
        "rateLimiting:\n  tools: [{{name: sleep, concurrency: {{shared: {COUNT_MAX}}}}}]\n  concurrencyLease: 3s\n  \
         redis: {{url: \"{}\"}}\n",
        redis.url()
    );
    Ok(config(NamePolicy::Unchanged, &[Backend::stdio("echo", &fixture(&words)?)], &limits))
}

fn sleep(client: &mut HttpClient, ms: u64) -> anyhow::Result<Value> {
    let answer = client.ask("tools/call", json!({"name": "sleep", "arguments": {"ms": ms}}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

fn is_refused(answer: &Value) -> bool {
    refusal_code(answer) == Some(429)
}

/// Returns the maximum number of concurrent calls and the number of started calls. The line `killed` ends all
/// calls of a killed gateway's backend. The backend may still write that they ended, because it outlives its
/// gateway for a moment.
fn max_in_flight(journal: &Path) -> anyhow::Result<(usize, usize)> {
    let text = std::fs::read_to_string(journal)?;
    let (mut running, mut killed, mut most, mut begun) = (Vec::new(), None, 0, 0);
    for line in text.lines() {
        let (event, rest) = line.split_once(' ').context("an event")?;
        let instance = rest.split(' ').next().unwrap_or_default();
        match event {
            "start" => {
                running.push(instance);
                begun += 1;
            }
            "killed" => {
                running.retain(|one| *one != instance);
                killed = Some(instance);
            }
            _ if killed == Some(instance) => {}
            _ => {
                let index = running.iter().position(|one| *one == instance).context("it has begun")?;
                running.swap_remove(index);
            }
        }
        most = most.max(running.len());
    }
    Ok((most, begun))
}

/// Calls at a gateway one after the other until a moment. Refused calls are repeated.
fn keep_calling(gateway: &Gateway, family: ProtocolFamily, until: Instant) -> anyhow::Result<()> {
    let mut client = HttpClient::open(&gateway.url, family)?;
    while Instant::now() < until {
        let answer = sleep(&mut client, 30)?;
        ensure!(is_refused(&answer) || answer["result"]["isError"] != true, "{answer}");
        if is_refused(&answer) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Runs `vmcp limits` with these arguments and returns its output.
fn run_vmcp(words: &[&str], text: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, text)?;
    run(Command::new(binary("vmcp")?).arg("limits").args(words).arg("--config").arg(&file))
}

#[test]
#[ignore = "slow: ./test --group fleets"]
fn a_fleet_stays_below_the_bound_while_a_gateway_is_killed() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let journal = folder.path().join("journal");
    let text = configured(&redis, &journal, 9)?;
    let mut gateways = (0..3)
        .map(|index| Gateway::start(&configured(&redis, &journal, index)?))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // The first gateway holds two of three slots with calls that do not end.
    let doomed: Vec<_> = ProtocolFamily::ALL
        .map(|family| {
            let mut client = HttpClient::open(&gateways[0].url, family)?;
            client.start_request("tools/call", json!({"name": "sleep", "arguments": {"ms": 600_000}}))
        })
        .into_iter()
        .collect::<anyhow::Result<_>>()?;
    wait::until("both are in flight", || max_in_flight(&journal).ok().filter(|(most, _)| *most == 2))?;
    let explained = run_vmcp(&["explain", "sleep"], &text)?;
    ensure!(
        explained.contains("3 in flight at once for all callers together, at all replicas"),
        "{explained}"
    );
    let checked = run_vmcp(&["check", "sleep"], &text)?;
    ensure!(checked.contains("2 of 3      in flight at all replicas"), "{checked}");

    let begun = Instant::now();
    let (killed, end) = (begun + Duration::from_secs(5), begun + Duration::from_secs(14));
    let dead = gateways.remove(0);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let mut callers = Vec::new();
        for gateway in &gateways {
            for family in ProtocolFamily::ALL {
                callers.push(scope.spawn(move || keep_calling(gateway, family, end)));
                callers.push(scope.spawn(move || keep_calling(gateway, family, end)));
            }
        }
        std::thread::sleep(killed.saturating_duration_since(Instant::now()));
        let (before, _) = max_in_flight(&journal)?;
        ensure!(before == COUNT_MAX, "{before} at most in flight");
        // Kills the gateway with its backend, which ends all its calls in flight.
        drop(dead);
        let mut file = std::fs::File::options().append(true).open(&journal)?;
        std::io::Write::write_all(&mut file, b"killed 0 sleep\n")?;
        // The duration of a lease, with slack for a busy machine.
        let back = wait::until_within(LEASE + Duration::from_secs(6), "its slots are back", || {
            let journal = std::fs::read_to_string(&journal).ok()?;
            let (mut running, mut is_dead) = (0_i64, false);
            // Only calls of the running gateways after the kill count, and a call that began before it. Two
            // concurrent calls use a slot of the killed gateway.
            let mut of_the_living =
                journal.lines().filter(|line| !line.contains(" 0 ") || line.starts_with("killed"));
            of_the_living.find(|line| {
                match line.split(' ').next() {
                    Some("killed") => is_dead = true,
                    Some("start") => running += 1,
                    _ => running -= 1,
                }
                is_dead && running >= 2
            })?;
            Some(killed.elapsed())
        })?;
        ensure!(back > LEASE / 3, "they were the dead one's for a while: {back:?}");
        for caller in callers {
            caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
        }
        Ok(())
    })?;
    drop(doomed);
    let (most, begun) = max_in_flight(&journal)?;
    ensure!(most == COUNT_MAX, "{most} in flight");
    ensure!(begun > 100, "only {begun} calls");
    // All gateways have reported the end of their calls, so no slot is held.
    wait::until("all slots are free", || {
        run_vmcp(&["check", "sleep"], &text).ok().filter(|said| said.contains(" 0 of 3 "))
    })?;
    Ok(())
}

/// The time-out of a call in the tests below.
const TIME: Duration = Duration::from_secs(4);
const ONE_AT_ONCE: &str = "rateLimiting: {concurrency: {shared: 1}}\n";

/// Calls until a call is admitted. Returns the duration, and whether a call was refused before.
fn until_admitted(
    client: &mut HttpClient,
    tool: &str,
    arguments: &Value,
) -> anyhow::Result<(Duration, bool)> {
    let (begun, mut refused) = (Instant::now(), false);
    let called = json!({"name": tool, "arguments": arguments});
    wait::until_within(TIME * 4, "there is room", || {
        let answer = client.ask("tools/call", called.clone()).ok()?;
        let is_full = is_refused(&serde_json::from_str(&answer.text).ok()?);
        refused |= is_full;
        (!is_full).then_some(())
    })?;
    Ok((begun.elapsed(), refused))
}

/// After a cancellation the backend sends no response, so the slot is free when the call's time-out is over.
#[test]
fn a_call_whose_client_has_left_counts_while_the_backend_may_work() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for (index, family) in ProtocolFamily::ALL.into_iter().enumerate() {
        let journal = folder.path().join(index.to_string());
        let words = ["echo", "--protocol", family.version(), "--journal", &journal.to_string_lossy()];
        let mut remote = Process::start(fixture(&words)?.args(["--transport", "http"]))?;
        let settings = format!("timeout: {}s", TIME.as_secs());
        let over_http = Backend::http("echo", remote.wait_for_url()?);
        for (is_http, backend) in [(false, Backend::stdio("echo", &fixture(&words)?)), (true, over_http)] {
            let gateway =
                Gateway::start(&config(NamePolicy::Unchanged, &[backend.with(&settings)], ONE_AT_ONCE))?;
            let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
            let before = max_in_flight(&journal).map_or(0, |(_, begun)| begun);
            let call =
                client.start_request("tools/call", json!({"name": "sleep", "arguments": {"ms": 60_000}}))?;
            let begun = Instant::now();
            wait::until("it is in flight", || {
                max_in_flight(&journal).ok().filter(|(_, begun)| *begun > before)
            })?;
            drop(call);
            let mut other = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
            let (_, refused) = until_admitted(&mut other, "sleep", &json!({"ms": 0}))?;
            let freed = begun.elapsed();
            ensure!(freed < TIME + Duration::from_secs(5), "{family:?}: {freed:?}");
            // Over HTTP with a session, the end of the response shows that the backend has stopped, so the
            // slot may be free at once.
            let is_told = is_http && family != ProtocolFamily::Stateless;
            ensure!(refused || is_told, "{family:?}: {freed:?}");
        }
        let (most, _) = max_in_flight(&journal)?;
        ensure!(most == 1, "{most} in flight");
    }
    Ok(())
}

#[test]
fn a_task_counts_until_it_has_ended() -> anyhow::Result<()> {
    let stateless = ProtocolFamily::Stateless.version();
    let child = fixture(&["tasks", "--instance", "child", "--protocol", stateless])?;
    let gateway =
        Gateway::start(&config(NamePolicy::Unchanged, &[Backend::stdio("child", &child)], ONE_AT_ONCE))?;
    let follows = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let mut client = HttpClient::open_with_capabilities(&gateway.url, ProtocolFamily::Stateless, follows)?;
    let call = json!({"name": "slow_compute", "arguments": {"seconds": 3}});
    let begun = Instant::now();
    let task = client.request("tools/call", call)?;
    ensure!(task["resultType"] == "task", "{task}");
    // The client does not ask for the task's state.
    let (_, refused) = until_admitted(&mut client, "greet", &json!({"name": "you"}))?;
    ensure!(refused && begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    let call = json!({"name": "slow_compute", "arguments": {"seconds": 600}});
    let task = client.request("tools/call", call)?;
    client.request("tasks/cancel", json!({"taskId": task["taskId"]}))?;
    until_admitted(&mut client, "greet", &json!({"name": "you"})).map(drop)
}
