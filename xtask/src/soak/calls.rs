//! One caller of a soak: what it asks, in which era, and what the answer has to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Account;
use crate::bench::exchange::Line;
use crate::bench::shot::{Era, Target};

/// What the fast backend's answers repeat after the word.
const PADDING: &str = "the quick brown fox jumps over the lazy dog; ";
/// How many calls are made on one connection, about.
const CALLS_EACH: u64 = 60;
/// No answer takes longer; the gateway gives a backend half of it.
const ANSWER_MAX: Duration = Duration::from_secs(65);
const STEADY: [&str; 3] = ["both", "session", "stateless"];
const MORTAL: [&str; 2] = ["mortal0", "mortal1"];
const TOOLS: [&str; 6] = ["json_200", "json_10k", "sse_200", "sse_10k", "json_1m", "sse_1m"];

/// The caller.
pub(super) struct Caller {
    address: String,
    number: usize,
    searched: bool,
    /// Asks for nothing large.
    small: bool,
    account: Arc<Account>,
    chance: u64,
    serial: u64,
}

/// What one exchange brought.
struct Answer {
    status: u16,
    body: Value,
}

impl Caller {
    pub(super) fn new(
        address: &str,
        number: usize,
        (searched, small): (bool, bool),
        account: Arc<Account>,
    ) -> Self {
        let chance = 0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1);
        Self { address: address.to_owned(), number, searched, small, account, chance, serial: 0 }
    }

    /// A number below `end`, by xorshift.
    fn draw(&mut self, end: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % end
    }

    fn pick(&mut self, names: &[&'static str]) -> &'static str {
        let place = usize::try_from(self.draw(names.len() as u64)).unwrap_or_default();
        names.get(place).copied().unwrap_or_default()
    }

    /// Connects, calls, hangs up, and begins again.
    pub(super) async fn call_until(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            let era = if self.draw(2) == 0 { Era::Session } else { Era::Stateless };
            let target = Target::new(&self.address, era);
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let mut line = Line::new(stream);
            line.keeps_all = true;
            let session = target.open(&mut line).await?;
            let calls = 1 + self.draw(2 * CALLS_EACH);
            let mut left = false;
            for _ in 0..calls {
                if Instant::now() >= until {
                    break;
                }
                if self.draw(40) == 0 {
                    self.leave(&mut line, &target, session.as_deref()).await?;
                    left = true;
                    break;
                }
                self.once(&mut line, &target, session.as_deref()).await?;
            }
            if let Some(session) = session {
                count(&self.account.sessions);
                if left {
                    line = Line::new(TcpStream::connect(&self.address).await?);
                }
                let answer = line.exchange(&target.delete(&session)).await?;
                ensure!(answer.status == 200, "a session was ended with {}", answer.status);
            }
        }
        Ok(())
    }

    /// Asks for something and hangs up: the call is taken back.
    async fn leave(&mut self, line: &mut Line, target: &Target, session: Option<&str>) -> anyhow::Result<()> {
        let tool = self.pick(if self.small { TOOLS.split_at(4).0 } else { &TOOLS });
        let word = self.word();
        let (name, params) = self.call(&format!("both_{tool}"), &word);
        let request = target.request(session, json!(word), "tools/call", Some(&name), params)?;
        count(&self.account.dropped);
        line.send(&request).await
    }

    fn word(&mut self) -> String {
        self.serial += 1;
        format!("w{}x{}", self.number, self.serial)
    }

    /// The name and parameters that call `tool` with `word`.
    fn call(&self, tool: &str, word: &str) -> (String, Value) {
        let arguments = json!({"word": word});
        if self.searched {
            let arguments = json!({"tool_name": tool, "parameters": arguments});
            return ("call_tool".to_owned(), json!({"name": "call_tool", "arguments": arguments}));
        }
        (tool.to_owned(), json!({"name": tool, "arguments": arguments}))
    }

    async fn once(&mut self, line: &mut Line, target: &Target, session: Option<&str>) -> anyhow::Result<()> {
        match self.draw(20) {
            0 => self.list(line, target, session).await,
            1 => self.wrong(line, target, session).await,
            2..=5 => self.right(line, target, session, true).await,
            _ => self.right(line, target, session, false).await,
        }
    }

    /// A call that a backend answers; `mortal` ones may be away.
    async fn right(
        &mut self,
        line: &mut Line,
        target: &Target,
        session: Option<&str>,
        mortal: bool,
    ) -> anyhow::Result<()> {
        let backend = if mortal { self.pick(&MORTAL) } else { self.pick(&STEADY) };
        // One call in thirty is a large one.
        let all = !self.small && self.draw(30) == 0;
        let tool = self.pick(if all { &TOOLS } else { TOOLS.split_at(4).0 });
        let word = self.word();
        let (name, params) = self.call(&format!("{backend}_{tool}"), &word);
        let answer = ask(line, target, session, (&word, "tools/call", Some(&name), params)).await?;
        let text = answer.body["result"]["content"][0]["text"].as_str();
        let failed = answer.body["error"].is_object() || answer.body["result"]["isError"] == true;
        if mortal && failed {
            count(&self.account.away);
            return Ok(());
        }
        let text = text.with_context(|| format!("{} for {name}: {}", answer.status, answer.body))?;
        let rest = text.strip_prefix(&*word).and_then(|rest| rest.strip_prefix(' '));
        let rest = rest.with_context(|| format!("{word} was answered with {:.60}", text))?;
        let size = match tool.rsplit('_').next() {
            Some("10k") => 10_000,
            Some("1m") => 1_000_000,
            _ => 40,
        };
        let whole = rest.len() >= size
            && rest.as_bytes().chunks(PADDING.len()).all(|part| PADDING.as_bytes().starts_with(part));
        ensure!(whole, "the answer of {name} is not what it has to be: {} bytes", rest.len());
        count(&self.account.answered);
        Ok(())
    }

    /// A tool that does not exist.
    async fn wrong(&mut self, line: &mut Line, target: &Target, session: Option<&str>) -> anyhow::Result<()> {
        let word = self.word();
        let (name, params) = self.call("both_nothing", &word);
        let answer = ask(line, target, session, (&word, "tools/call", Some(&name), params)).await?;
        let failed = answer.body["error"].is_object() || answer.body["result"]["isError"] == true;
        ensure!(failed, "a tool that does not exist answered: {}", answer.body);
        count(&self.account.refused);
        Ok(())
    }

    async fn list(&mut self, line: &mut Line, target: &Target, session: Option<&str>) -> anyhow::Result<()> {
        let word = self.word();
        let answer = ask(line, target, session, (&word, "tools/list", None, json!({}))).await?;
        let tools = answer.body["result"]["tools"].as_array().context("a list has tools")?;
        let named = |name: &str| tools.iter().any(|tool| tool["name"] == name);
        let whole = if self.searched {
            named("find_tool") && named("call_tool")
        } else {
            STEADY.iter().all(|backend| named(&format!("{backend}_json_200")))
        };
        ensure!(whole, "a list lacks tools of backends that are there");
        count(&self.account.lists);
        Ok(())
    }
}

/// One exchange; the answer has to be under the identifier of the request.
async fn ask(
    line: &mut Line,
    target: &Target,
    session: Option<&str>,
    (id, method, name, params): (&str, &'static str, Option<&str>, Value),
) -> anyhow::Result<Answer> {
    let request = target.request(session, json!(id), method, name, params)?;
    let answer = tokio::time::timeout(ANSWER_MAX, line.exchange(&request)).await;
    let answer =
        answer.with_context(|| format!("{method} {name:?} was not answered in {ANSWER_MAX:?}"))??;
    // An answer that comes as an event stands behind its field.
    let text = std::str::from_utf8(&answer.start)?;
    let data = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or(text);
    let body: Value =
        serde_json::from_str(data).with_context(|| format!("{}: {data:.200}", answer.status))?;
    ensure!(body["id"] == id, "{id} was asked, and {} was answered", body["id"]);
    Ok(Answer { status: answer.status, body })
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
