//! A crowd: eight clients at eight backends, both eras on both sides, stdio and HTTP, with questions, progress and
//! cancellations under way at the same time. Everything that is said names whom it is for, and each client fails when it
//! hears anything else. In the end the gateway must have no more threads, files and memory than after the warm-up.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::gateway::{Backend, Gateway, Names, config};
use crate::mcp::{Client as _, Era, HttpClient, text_of};
use crate::process::{Process, fixture};
use crate::wait;

const CLIENTS: usize = 8;
const BACKENDS: usize = 8;
/// The pause after each call, so that the ports of this machine last.
const PAUSE: Duration = Duration::from_millis(5);
/// The warm-up, as a part of the whole time.
const WARM_UP_PART: u32 = 5;
/// How much more memory than after the warm-up is still the same: the allocator keeps what it has, in pieces.
const MEMORY_SLACK: u64 = 16 << 20;

/// What a client does, each on a thread of its own.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Answers,
    Follows,
    TakesBack,
}

/// What the gateway's process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub files: u64,
}

/// What was done, and what the gateway held before and after.
#[derive(Debug)]
pub struct Figures {
    /// Questions answered.
    pub answered: u64,
    /// Questions that could have been for several clients and were refused, on shared channels of session backends.
    pub unclear: u64,
    /// Calls followed to their end.
    pub followed: u64,
    /// Progress messages heard.
    pub steps: u64,
    /// Calls taken back, as their backends confirmed.
    pub taken_back: u64,
    /// After the warm-up.
    pub before: Holdings,
    /// In the end.
    pub after: Holdings,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, unclear, followed, steps, taken_back, before, after } = self;
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
    unclear: AtomicU64,
    followed: AtomicU64,
    steps: AtomicU64,
    taken_back: AtomicU64,
}

/// Lets the crowd in for so long.
///
/// # Errors
/// When a client hears what is somebody else's, a call goes wrong, or something is left over in the end.
pub fn run(time: Duration) -> anyhow::Result<Figures> {
    let mut running = Vec::new();
    let mut backends = Vec::new();
    for number in 0..BACKENDS {
        let era = if number % 2 == 0 { Era::Session } else { Era::Stateless };
        let words = ["crowd", "--era", era.version()];
        let name = format!("b{number}");
        if number % 4 < 2 {
            backends.push(Backend::stdio(name, &fixture(&words)?));
        } else {
            let mut process = Process::start(fixture(&words)?.args(["--transport", "http"]))?;
            backends.push(Backend::http(name, process.wait_for_url()?));
            running.push(process);
        }
    }
    let mut gateway = Gateway::start(&config(Names::Prefixed, &backends, ""))?;
    let clients = (0..CLIENTS).map(|number| {
        let era = if number % 2 == 0 { Era::Session } else { Era::Stateless };
        HttpClient::open_offering(&gateway.url, era, json!({"elicitation": {}}))
    });
    let clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    // Asked about cancellations: it can be asked nothing, so its calls wait for nobody's turn.
    let observer = HttpClient::open(&gateway.url, Era::Stateless)?;
    let pid = gateway.process.child().id();
    let counts = Counts::default();
    let outcome = (|| {
        let mut crowd = Crowd { clients: &clients, observer: &observer, counts: &counts, serial: 0 };
        crowd.mill(time / WARM_UP_PART)?;
        std::thread::sleep(Duration::from_secs(2));
        let before = holdings(pid)?;
        crowd.mill(time)?;
        crowd.nobody_waits()?;
        let after = at_rest(pid, before)?;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Figures {
            answered: count(&counts.answered),
            unclear: count(&counts.unclear),
            followed: count(&counts.followed),
            steps: count(&counts.steps),
            taken_back: count(&counts.taken_back),
            before,
            after,
        })
    })();
    let figures: Figures = outcome.map_err(|error: anyhow::Error| {
        error.context(format!("the gateway said:\n{}", gateway.process.said()))
    })?;
    ensure!(
        figures.answered > 0 && figures.followed > 0 && figures.steps > 0 && figures.taken_back > 0,
        "too little happened: {figures}"
    );
    Ok(figures)
}

/// Reads what a process holds.
fn holdings(pid: u32) -> anyhow::Result<Holdings> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |name: &str| -> anyhow::Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.context("no such line")?.trim().trim_end_matches("kB").trim().parse()?)
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(Holdings { resident: number("VmRSS:")? << 10, threads: number("Threads:")?, files: files as u64 })
}

/// Waits until a process holds no more than it did. Kept connections and spare threads go after a while.
fn at_rest(pid: u32, before: Holdings) -> anyhow::Result<Holdings> {
    let limit = Duration::from_secs(120);
    let mut last = before;
    wait::until_within(limit, "the gateway holds no more than after the warm-up", || {
        last = holdings(pid).ok()?;
        let same = last.threads <= before.threads
            && last.files <= before.files
            && last.resident <= before.resident + MEMORY_SLACK;
        same.then_some(last)
    })
    .with_context(|| format!("before {before:?}, after {last:?}"))
}

struct Crowd<'a> {
    clients: &'a [HttpClient],
    observer: &'a HttpClient,
    counts: &'a Counts,
    /// How many siblings have been made: each has identifiers of its own.
    serial: u64,
}

impl Crowd<'_> {
    /// Everybody does everything at once for so long.
    fn mill(&mut self, time: Duration) -> anyhow::Result<()> {
        let stop = AtomicBool::new(false);
        let end = Instant::now() + time;
        let (stop, counts) = (&stop, self.counts);
        std::thread::scope(|scope| {
            let mut threads: Vec<std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>> = Vec::new();
            for (number, client) in self.clients.iter().enumerate() {
                for deed in [Deed::Answers, Deed::Follows, Deed::TakesBack] {
                    self.serial += 1;
                    let mut member = Member {
                        client: client.sibling(self.serial),
                        observer: self.observer.sibling(self.serial),
                        name: format!("c{number}.{}", self.serial),
                        era: if number % 2 == 0 { Era::Session } else { Era::Stateless },
                        counts,
                    };
                    threads.push(scope.spawn(move || {
                        let mut turn = number;
                        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                            turn += 1;
                            let done = member.act(deed, turn);
                            if done.is_err() {
                                stop.store(true, Ordering::Relaxed);
                            }
                            done.with_context(|| format!("{} {deed:?}, turn {turn}", member.name))?;
                            std::thread::sleep(PAUSE);
                        }
                        Ok(())
                    }));
                }
            }
            let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            for one in ended {
                match one {
                    Ok(done) => done?,
                    Err(_) => bail!("a member of the crowd panicked"),
                }
            }
            Ok(())
        })
    }

    /// No backend works on a call that its client has left.
    fn nobody_waits(&self) -> anyhow::Result<()> {
        for backend in 0..BACKENDS {
            let told = told(&mut self.observer.clone(), backend, "nobody")?;
            ensure!(told == "nobody is unknown; 0 wait", "b{backend}: {told}");
        }
        Ok(())
    }
}

fn told(observer: &mut HttpClient, backend: usize, who: &str) -> anyhow::Result<String> {
    Ok(text_of(&observer.call(&format!("b{backend}_told"), json!({"who": who}))?))
}

/// One client at one kind of deed.
struct Member<'a> {
    client: HttpClient,
    observer: HttpClient,
    name: String,
    era: Era,
    counts: &'a Counts,
}

impl Member<'_> {
    fn act(&mut self, deed: Deed, turn: usize) -> anyhow::Result<()> {
        let backend = turn % BACKENDS;
        let who = format!("{}.{turn}", self.name);
        match deed {
            Deed::Answers => self.answers(backend, &who),
            Deed::Follows => self.follows(backend, &who),
            Deed::TakesBack => self.takes_back(backend, &who),
        }
    }

    /// Sends a call and gives its answer; what is said before it is handed to `hears`.
    fn exchange(
        &mut self,
        params: Value,
        mut hears: impl FnMut(&HttpClient, &Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let mut messages = self.client.start("tools/call", params)?;
        let id = self.client.last_id();
        while let Some(text) = messages.next_message()? {
            let message: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            if message.get("method").is_some() {
                hears(&self.client, &message)?;
                continue;
            }
            ensure!(message["id"] == id, "an answer to somebody else's request: {message}");
            return Ok(message);
        }
        bail!("no answer, status {}", messages.status)
    }

    fn answers(&mut self, backend: usize, who: &str) -> anyhow::Result<()> {
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
                ensure!(self.era == Era::Stateless && rounds <= 2, "asked again and again: {message}");
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
            // On the one channel of a session backend it may be unclear whom a question is for.
            let shared = backend.is_multiple_of(4);
            ensure!(
                shared && message.to_string().contains("calls of several clients may be under way"),
                "{who} got {message}"
            );
            self.counts.unclear.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
    }

    fn follows(&mut self, backend: usize, who: &str) -> anyhow::Result<()> {
        let params = json!({
            "name": format!("b{backend}_steps"), "arguments": {"who": who}, "_meta": {"progressToken": who},
        });
        let mut heard = 0;
        let message = self.exchange(params, |_, told| {
            ensure!(told["method"] == "notifications/progress", "unasked: {told}");
            let (token, text) = (&told["params"]["progressToken"], &told["params"]["message"]);
            let own = text.as_str().is_some_and(|text| text.ends_with(&format!(" of {who}")));
            ensure!(*token == *who && own, "not {who}'s progress: {told}");
            heard += 1;
            Ok(())
        })?;
        ensure!(text_of(&message["result"]) == format!("{who} is through"), "{who} got {message}");
        self.counts.steps.fetch_add(heard, Ordering::Relaxed);
        self.counts.followed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn takes_back(&mut self, backend: usize, who: &str) -> anyhow::Result<()> {
        let params = json!({"name": format!("b{backend}_wait"), "arguments": {"who": who}});
        let waiting = self.client.begin("tools/call", params)?;
        let observer = &mut self.observer;
        let mut until = |state: &str| {
            let wanted = format!("{who} is {state}; ");
            let mut trouble = None;
            wait::until(&wanted, || match told(observer, backend, who) {
                Ok(told) => told.starts_with(&wanted).then_some(()),
                Err(error) => {
                    trouble = Some(error);
                    Some(())
                }
            })?;
            trouble.map_or(Ok(()), Err)
        };
        until("waiting")?;
        // Leaving a stream means nothing in the session era; there it is said.
        if self.era == Era::Session {
            let id = self.client.last_id();
            self.client.notify("notifications/cancelled", json!({"requestId": id}))?;
        }
        drop(waiting);
        until("ended")?;
        self.counts.taken_back.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
