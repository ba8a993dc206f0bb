//! One caller of a soak test: its requests, their protocol family, and the expected answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::CallCounts;
use crate::bench::connection::Connection;
use crate::bench::request::{ProtocolFamily, Target};

/// The text that the fast backend's answers repeat after the word.
const PADDING: &str = "the quick brown fox jumps over the lazy dog; ";
/// The average number of calls on one connection.
const CALLS_EACH: u64 = 60;
/// Time-out of one answer. It is twice the time-out that the gateway applies to a backend.
const ANSWER_MAX: Duration = Duration::from_secs(65);
const PERMANENT: [&str; 3] = ["both", "session", "stateless"];
const RESTARTABLE: [&str; 2] = ["mortal0", "mortal1"];
const TOOLS: [&str; 6] = ["json_200", "json_10k", "sse_200", "sse_10k", "json_1m", "sse_1m"];

/// A caller with its random number generator and its counter of unique words.
pub(super) struct Caller {
    address: String,
    number: usize,
    uses_call_tool: bool,
    /// Sends no request with a large response.
    only_small: bool,
    counts: Arc<CallCounts>,
    rng_state: u64,
    next_word: u64,
}

/// The response of one exchange.
struct Answer {
    status: u16,
    body: Value,
}

impl Caller {
    pub(super) fn new(
        address: &str,
        number: usize,
        (searched, small): (bool, bool),
        account: Arc<CallCounts>,
    ) -> Self {
        let rng_state = 0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1);
        Self {
            address: address.to_owned(),
            number,
            uses_call_tool: searched,
            only_small: small,
            counts: account,
            rng_state,
            next_word: 0,
        }
    }

    /// A random number below `end`, by xorshift.
    fn random_below(&mut self, end: u64) -> u64 {
        self.rng_state ^= self.rng_state << 13;
        self.rng_state ^= self.rng_state >> 7;
        self.rng_state ^= self.rng_state << 17;
        self.rng_state % end
    }

    fn pick(&mut self, names: &[&'static str]) -> &'static str {
        let index = usize::try_from(self.random_below(names.len() as u64)).unwrap_or_default();
        names.get(index).copied().unwrap_or_default()
    }

    /// Connects, sends requests, disconnects, and repeats that until the given moment.
    pub(super) async fn call_until(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            let family =
                if self.random_below(2) == 0 { ProtocolFamily::Sessions } else { ProtocolFamily::Stateless };
            let target = Target::new(&self.address, family);
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let mut connection = Connection::new(stream);
            connection.keeps_whole_body = true;
            let session = target.open_session(&mut connection).await?;
            let calls = 1 + self.random_below(2 * CALLS_EACH);
            let mut has_abandoned = false;
            for _ in 0..calls {
                if Instant::now() >= until {
                    break;
                }
                if self.random_below(40) == 0 {
                    self.abandon_call(&mut connection, &target, session.as_deref()).await?;
                    has_abandoned = true;
                    break;
                }
                self.make_one_request(&mut connection, &target, session.as_deref()).await?;
            }
            if let Some(session) = session {
                increment(&self.counts.sessions);
                if has_abandoned {
                    connection = Connection::new(TcpStream::connect(&self.address).await?);
                }
                let answer = connection.exchange(&target.encode_delete(&session)).await?;
                ensure!(answer.status == 200, "a session was ended with {}", answer.status);
            }
        }
        Ok(())
    }

    /// Sends a call without reading its response. The caller then closes the connection, which cancels the
    /// call.
    async fn abandon_call(
        &mut self,
        connection: &mut Connection,
        target: &Target,
        session: Option<&str>,
    ) -> anyhow::Result<()> {
        let tool = self.pick(if self.only_small { TOOLS.split_at(4).0 } else { &TOOLS });
        let word = self.new_word();
        let (name, params) = self.call_params(&format!("both_{tool}"), &word);
        let request = target.encode_request(session, json!(word), "tools/call", Some(&name), params)?;
        increment(&self.counts.cancelled);
        connection.send(&request).await
    }

    fn new_word(&mut self) -> String {
        self.next_word += 1;
        format!("w{}x{}", self.number, self.next_word)
    }

    /// Returns the tool name and the parameters of a call of `tool` with `word`.
    fn call_params(&self, tool: &str, word: &str) -> (String, Value) {
        let arguments = json!({"word": word});
        if self.uses_call_tool {
            let arguments = json!({"tool_name": tool, "parameters": arguments});
            return ("call_tool".to_owned(), json!({"name": "call_tool", "arguments": arguments}));
        }
        (tool.to_owned(), json!({"name": tool, "arguments": arguments}))
    }

    async fn make_one_request(
        &mut self,
        connection: &mut Connection,
        target: &Target,
        session: Option<&str>,
    ) -> anyhow::Result<()> {
        match self.random_below(20) {
            0 => self.expect_list(connection, target, session).await,
            1 => self.expect_error(connection, target, session).await,
            2..=5 => self.expect_answer(connection, target, session, true).await,
            _ => self.expect_answer(connection, target, session, false).await,
        }
    }

    /// Sends a call and checks its answer. With `may_be_down` the backend is one that restarts, and an error is
    /// accepted.
    async fn expect_answer(
        &mut self,
        connection: &mut Connection,
        target: &Target,
        session: Option<&str>,
        may_be_down: bool,
    ) -> anyhow::Result<()> {
        let backend = if may_be_down { self.pick(&RESTARTABLE) } else { self.pick(&PERMANENT) };
        // One call in thirty may have a large response.
        let all = !self.only_small && self.random_below(30) == 0;
        let tool = self.pick(if all { &TOOLS } else { TOOLS.split_at(4).0 });
        let word = self.new_word();
        let (name, params) = self.call_params(&format!("{backend}_{tool}"), &word);
        let answer =
            exchange(connection, target, session, (&word, "tools/call", Some(&name), params)).await?;
        let text = answer.body["result"]["content"][0]["text"].as_str();
        let failed = answer.body["error"].is_object() || answer.body["result"]["isError"] == true;
        if may_be_down && failed {
            increment(&self.counts.unavailable);
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
        increment(&self.counts.answered);
        Ok(())
    }

    /// Calls a tool that does not exist and expects an error.
    async fn expect_error(
        &mut self,
        connection: &mut Connection,
        target: &Target,
        session: Option<&str>,
    ) -> anyhow::Result<()> {
        let word = self.new_word();
        let (name, params) = self.call_params("both_nothing", &word);
        let answer =
            exchange(connection, target, session, (&word, "tools/call", Some(&name), params)).await?;
        let failed = answer.body["error"].is_object() || answer.body["result"]["isError"] == true;
        ensure!(failed, "a tool that does not exist answered: {}", answer.body);
        increment(&self.counts.refused);
        Ok(())
    }

    async fn expect_list(
        &mut self,
        connection: &mut Connection,
        target: &Target,
        session: Option<&str>,
    ) -> anyhow::Result<()> {
        let word = self.new_word();
        let answer = exchange(connection, target, session, (&word, "tools/list", None, json!({}))).await?;
        let tools = answer.body["result"]["tools"].as_array().context("a list has tools")?;
        let named = |name: &str| tools.iter().any(|tool| tool["name"] == name);
        let whole = if self.uses_call_tool {
            named("find_tool") && named("call_tool")
        } else {
            PERMANENT.iter().all(|backend| named(&format!("{backend}_json_200")))
        };
        ensure!(whole, "a list lacks tools of backends that are there");
        increment(&self.counts.lists);
        Ok(())
    }
}

/// Sends a request and reads its response, which must carry the identifier of the request.
async fn exchange(
    connection: &mut Connection,
    target: &Target,
    session: Option<&str>,
    (id, method, name, params): (&str, &'static str, Option<&str>, Value),
) -> anyhow::Result<Answer> {
    let request = target.encode_request(session, json!(id), method, name, params)?;
    let answer = tokio::time::timeout(ANSWER_MAX, connection.exchange(&request)).await;
    let answer =
        answer.with_context(|| format!("{method} {name:?} was not answered in {ANSWER_MAX:?}"))??;
    // In an event stream the answer follows the field name `data`.
    let text = std::str::from_utf8(&answer.body_start)?;
    let data = text.lines().rev().find_map(|connection| connection.strip_prefix("data: ")).unwrap_or(text);
    let body: Value =
        serde_json::from_str(data).with_context(|| format!("{}: {data:.200}", answer.status))?;
    ensure!(body["id"] == id, "{id} was asked, and {} was answered", body["id"]);
    Ok(Answer { status: answer.status, body })
}

fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
