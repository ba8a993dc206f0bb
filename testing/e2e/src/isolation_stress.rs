//! The isolation stress test: eight clients and eight backends, in both protocol families on both sides, over
//! stdio and HTTP. Questions, progress and cancellations are in flight at the same time. Every message names
//! its recipient, and a client fails when it receives a message for another recipient. At the end the gateway
//! may not have more threads, files or memory than after the warm-up.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::gateway::{Backend, Gateway, NamePolicy, config};
use crate::mcp::{Client as _, HttpClient, ProtocolFamily, text_of};
use crate::process::{Process, fixture};
use crate::wait;

const CLIENTS: usize = 8;
const BACKENDS: usize = 8;
/// The pause after each call, which prevents that the machine runs out of ports.
const CALL_PAUSE: Duration = Duration::from_millis(5);
/// The warm-up takes this fraction of the duration.
const WARM_UP_FRACTION: u32 = 5;
/// By how many bytes the memory may exceed its value after the warm-up. The allocator does not return freed
/// memory at once.
const MEMORY_SLACK: u64 = 16 << 20;

/// The role of a client; each runs on its own thread.
#[derive(Clone, Copy, Debug)]
enum Role {
    AnswerQuestions,
    FollowProgress,
    CancelCalls,
}

/// The resource usage of the gateway's process.
#[derive(Clone, Copy, Debug)]
pub struct ResourceUsage {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Number of threads.
    pub threads: u64,
    /// Number of open files and sockets.
    pub files: u64,
}

/// The counts of a run, and the resource usage before and after.
#[derive(Debug)]
pub struct StressReport {
    /// Questions answered.
    pub answered: u64,
    /// Questions refused because they could be for several clients, on shared connections of backends with
    /// sessions.
    pub ambiguous: u64,
    /// Calls whose progress was followed to their end.
    pub followed: u64,
    /// Progress messages received.
    pub progress_messages: u64,
    /// Calls cancelled, as their backends confirmed.
    pub cancelled: u64,
    /// Resource usage after the warm-up.
    pub before: ResourceUsage,
    /// Resource usage at the end.
    pub after: ResourceUsage,
}

impl fmt::Display for StressReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            answered,
            ambiguous: unclear,
            followed,
            progress_messages: steps,
            cancelled: taken_back,
            before,
            after,
        } = self;
        writeln!(f, "questions answered {answered}, refused as unclear {unclear}")?;
        writeln!(
            f,
            "calls followed {followed} with {steps} progress messages, calls taken back {taken_back}"
        )?;
        writeln!(f, "after the warm-up {before:?}")?;
        write!(f, "in the end {after:?}")
    }
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    ambiguous: AtomicU64,
    followed: AtomicU64,
    progress_messages: AtomicU64,
    cancelled: AtomicU64,
}

/// Runs the stress test for the duration `time`, after the warm-up.
///
/// # Errors
/// When a client receives a message for another client, a call fails, or resources have leaked.
pub fn run(time: Duration) -> anyhow::Result<StressReport> {
    let mut running = Vec::new();
    let mut backends = Vec::new();
    for number in 0..BACKENDS {
        let family = if number % 2 == 0 { ProtocolFamily::Sessions } else { ProtocolFamily::Stateless };
        let words = ["isolation", "--protocol", family.version()];
        let name = format!("b{number}");
        if number % 4 < 2 {
            backends.push(Backend::stdio(name, &fixture(&words)?));
        } else {
            let mut process = Process::start(fixture(&words)?.args(["--transport", "http"]))?;
            backends.push(Backend::http(name, process.wait_for_url()?));
            running.push(process);
        }
    }
    let mut gateway = Gateway::start(&config(NamePolicy::Prefixed, &backends, ""))?;
    let clients = (0..CLIENTS).map(|number| {
        let family = if number % 2 == 0 { ProtocolFamily::Sessions } else { ProtocolFamily::Stateless };
        HttpClient::open_with_capabilities(&gateway.url, family, json!({"elicitation": {}}))
    });
    let clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    // The observer asks the backends about cancelled calls. It declares no elicitation, so the gateway does
    // not serialise its calls with those of other clients.
    let observer = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    let pid = gateway.process.child().id();
    let counts = Counts::default();
    let outcome = (|| {
        let mut run = StressRun { clients: &clients, observer: &observer, counts: &counts, serial: 0 };
        run.run_for(time / WARM_UP_FRACTION)?;
        std::thread::sleep(Duration::from_secs(2));
        let before = resource_usage(pid)?;
        run.run_for(time)?;
        run.check_no_pending_calls()?;
        let after = wait_for_rest(pid, before)?;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(StressReport {
            answered: count(&counts.answered),
            ambiguous: count(&counts.ambiguous),
            followed: count(&counts.followed),
            progress_messages: count(&counts.progress_messages),
            cancelled: count(&counts.cancelled),
            before,
            after,
        })
    })();
    let figures: StressReport = outcome.map_err(|error: anyhow::Error| {
        error.context(format!("the gateway said:\n{}", gateway.process.output()))
    })?;
    ensure!(
        figures.answered > 0
            && figures.followed > 0
            && figures.progress_messages > 0
            && figures.cancelled > 0,
        "too little happened: {figures}"
    );
    Ok(figures)
}

/// Reads the resource usage of a process.
fn resource_usage(pid: u32) -> anyhow::Result<ResourceUsage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |name: &str| -> anyhow::Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.context("no such line")?.trim().trim_end_matches("kB").trim().parse()?)
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(ResourceUsage {
        resident_bytes: number("VmRSS:")? << 10,
        threads: number("Threads:")?,
        files: files as u64,
    })
}

/// Waits until a process uses no more than before. Idle connections and spare threads end after a while.
fn wait_for_rest(pid: u32, before: ResourceUsage) -> anyhow::Result<ResourceUsage> {
    let limit = Duration::from_secs(120);
    let mut last = before;
    wait::until_within(limit, "the gateway holds no more than after the warm-up", || {
        last = resource_usage(pid).ok()?;
        let same = last.threads <= before.threads
            && last.files <= before.files
            && last.resident_bytes <= before.resident_bytes + MEMORY_SLACK;
        same.then_some(last)
    })
    .with_context(|| format!("before {before:?}, after {last:?}"))
}

struct StressRun<'a> {
    clients: &'a [HttpClient],
    observer: &'a HttpClient,
    counts: &'a Counts,
    /// The number of created clients, from which each derives its request identifiers.
    serial: u64,
}

impl StressRun<'_> {
    /// Runs all roles of all clients concurrently for the duration `time`.
    fn run_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let stop = AtomicBool::new(false);
        let end = Instant::now() + time;
        let (stop, counts) = (&stop, self.counts);
        std::thread::scope(|scope| {
            let mut threads: Vec<std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>> = Vec::new();
            for (number, client) in self.clients.iter().enumerate() {
                for role in [Role::AnswerQuestions, Role::FollowProgress, Role::CancelCalls] {
                    self.serial += 1;
                    let mut member = StressClient {
                        client: client.share_session(self.serial),
                        observer: self.observer.share_session(self.serial),
                        name: format!("c{number}.{}", self.serial),
                        family: if number % 2 == 0 {
                            ProtocolFamily::Sessions
                        } else {
                            ProtocolFamily::Stateless
                        },
                        counts,
                    };
                    threads.push(scope.spawn(move || {
                        let mut turn = number;
                        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                            turn += 1;
                            let done = member.perform(role, turn);
                            if done.is_err() {
                                stop.store(true, Ordering::Relaxed);
                            }
                            done.with_context(|| format!("{} {role:?}, turn {turn}", member.name))?;
                            std::thread::sleep(CALL_PAUSE);
                        }
                        Ok(())
                    }));
                }
            }
            let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            for one in ended {
                match one {
                    Ok(done) => done?,
                    Err(_) => bail!("a client of the stress test panicked"),
                }
            }
            Ok(())
        })
    }

    /// Checks that no backend still runs a call that its client has cancelled.
    fn check_no_pending_calls(&self) -> anyhow::Result<()> {
        for backend in 0..BACKENDS {
            let reported = call_state(&mut self.observer.clone(), backend, "nobody")?;
            ensure!(reported == "nobody is unknown; 0 wait", "b{backend}: {reported}");
        }
        Ok(())
    }
}

fn call_state(observer: &mut HttpClient, backend: usize, who: &str) -> anyhow::Result<String> {
    Ok(text_of(&observer.call(&format!("b{backend}_told"), json!({"who": who}))?))
}

/// One client in one role.
struct StressClient<'a> {
    client: HttpClient,
    observer: HttpClient,
    name: String,
    family: ProtocolFamily,
    counts: &'a Counts,
}

impl StressClient<'_> {
    fn perform(&mut self, role: Role, turn: usize) -> anyhow::Result<()> {
        let backend = turn % BACKENDS;
        let who = format!("{}.{turn}", self.name);
        match role {
            Role::AnswerQuestions => self.answer_questions(backend, &who),
            Role::FollowProgress => self.follow_progress(backend, &who),
            Role::CancelCalls => self.cancel_call(backend, &who),
        }
    }

    /// Sends a call and returns its response. Earlier messages are passed to `on_message`.
    fn exchange(
        &mut self,
        params: Value,
        mut on_message: impl FnMut(&HttpClient, &Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let mut messages = self.client.send_request("tools/call", params)?;
        let id = self.client.last_id();
        while let Some(text) = messages.next_message()? {
            let message: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            if message.get("method").is_some() {
                on_message(&self.client, &message)?;
                continue;
            }
            ensure!(message["id"] == id, "an answer to somebody else's request: {message}");
            return Ok(message);
        }
        bail!("no answer, status {}", messages.status)
    }

    fn answer_questions(&mut self, backend: usize, who: &str) -> anyhow::Result<()> {
        let expected = format!("question for {who}");
        let answer = json!({"action": "accept", "content": {"who": who}});
        let mut params = json!({"name": format!("b{backend}_ask"), "arguments": {"who": who}});
        let mut rounds = 0;
        loop {
            let message = self.exchange(params.clone(), |client, asked| {
                ensure!(asked["method"] == "elicitation/create", "unasked: {asked}");
                ensure!(asked["params"]["message"] == *expected, "not a question for {who}: {asked}");
                client.reply(&asked["id"], &answer)
            })?;
            let result = &message["result"];
            if result["resultType"] == "input_required" {
                rounds += 1;
                ensure!(
                    self.family == ProtocolFamily::Stateless && rounds <= 2,
                    "asked again and again: {message}"
                );
                let asked = result["inputRequests"].as_object().context("no questions")?;
                let mut responses = json!({});
                for (key, question) in asked {
                    ensure!(
                        question["params"]["message"] == *expected,
                        "not a question for {who}: {message}"
                    );
                    responses[key] = answer.clone();
                }
                params["inputResponses"] = responses;
                params["requestState"] = result["requestState"].clone();
                continue;
            }
            if text_of(result) == format!("{who} answered {who}") {
                self.counts.answered.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            // A backend with sessions has one shared connection over stdio, so the gateway may be unable to
            // attribute a question.
            let shared = backend.is_multiple_of(4);
            ensure!(
                shared && message.to_string().contains("calls of several clients may be under way"),
                "{who} got {message}"
            );
            self.counts.ambiguous.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
    }

    fn follow_progress(&mut self, backend: usize, who: &str) -> anyhow::Result<()> {
        let params = json!({
            "name": format!("b{backend}_steps"), "arguments": {"who": who}, "_meta": {"progressToken": who},
        });
        let mut messages = 0;
        let message = self.exchange(params, |_, reported| {
            ensure!(reported["method"] == "notifications/progress", "unasked: {reported}");
            let (token, text) = (&reported["params"]["progressToken"], &reported["params"]["message"]);
            let own = text.as_str().is_some_and(|text| text.ends_with(&format!(" of {who}")));
            ensure!(*token == *who && own, "not {who}'s progress: {reported}");
            messages += 1;
            Ok(())
        })?;
        ensure!(text_of(&message["result"]) == format!("{who} is through"), "{who} got {message}");
        self.counts.progress_messages.fetch_add(messages, Ordering::Relaxed);
        self.counts.followed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn cancel_call(&mut self, backend: usize, who: &str) -> anyhow::Result<()> {
        let params = json!({"name": format!("b{backend}_wait"), "arguments": {"who": who}});
        let waiting = self.client.start_request("tools/call", params)?;
        let observer = &mut self.observer;
        let mut until = |state: &str| {
            let wanted = format!("{who} is {state}; ");
            let mut trouble = None;
            wait::until(&wanted, || match call_state(observer, backend, who) {
                Ok(reported) => reported.starts_with(&wanted).then_some(()),
                Err(error) => {
                    trouble = Some(error);
                    Some(())
                }
            })?;
            trouble.map_or(Ok(()), Err)
        };
        until("waiting")?;
        // In versions with sessions, closing the stream does not cancel a call; the notification does.
        if self.family == ProtocolFamily::Sessions {
            let id = self.client.last_id();
            self.client.notify("notifications/cancelled", json!({"requestId": id}))?;
        }
        drop(waiting);
        until("ended")?;
        self.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
