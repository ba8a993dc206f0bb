//! `cargo xtask bench sessions`: memory of an idle client session. 100,000 sessions are opened over a few
//! keep-alive connections, ended, and opened again. The resident memory of the gateway is read after each
//! step.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::{Server, cargo, target};

/// How many sessions are open at once: the maximum of a gateway.
const SESSIONS: usize = 100_000;
/// How many sessions are opened and ended before the first measurement.
const WARM_UP: usize = 2_000;
/// How many connections the sessions are opened over.
const CONNECTIONS: usize = 4;
/// How long the gateway is idle before its memory is read.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// The maximum memory of a session, in bytes.
const BYTES_MAX: u64 = 2048;

/// Measures the memory and prints the table.
pub(super) fn run() -> anyhow::Result<()> {
    cargo(&["build", "--quiet", "--release", "-p", "vmcp-gateway"])?;
    let vmcp = target()?.join("release/vmcp");
    let backend = Server::start(&vmcp, &["demo-server", "glossary", "--http", "0"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sessions.yaml");
    let text = format!(
        "name: bench\nincomingAuth: {{type: local}}\nlisten: {{bounds: {{maxSessionsPerCaller: 100000}}}}\nbackends:\n  - {{name: glossary, transport: streamable-http, url: \
         \"http://{}/mcp\"}}\n",
        backend.address
    );
    std::fs::write(&file, text)?;
    let gateway = Server::start(&vmcp, &["serve", "--port", "0", "-c", &file.display().to_string()])?;
    end_sessions(&gateway.address, &open_sessions(&gateway.address, WARM_UP)?)?;
    let mut before = resident_bytes(&gateway)?;
    println!("{CONNECTIONS} connections; resident before: {} KiB", before >> 10);
    println!("| round | opened in | resident | bytes each | ended in | resident after |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut bytes_each = 0;
    for round in 1..=2 {
        let begun = Instant::now();
        let names = open_sessions(&gateway.address, SESSIONS)?;
        let opened = begun.elapsed();
        let full = resident_bytes(&gateway)?;
        let begun = Instant::now();
        end_sessions(&gateway.address, &names)?;
        let ended = begun.elapsed();
        let after = resident_bytes(&gateway)?;
        bytes_each = bytes_each.max(full.saturating_sub(before) / SESSIONS as u64);
        println!(
            "| {round} | {:.1} s | {} KiB | {} | {:.1} s | {} KiB |",
            opened.as_secs_f64(),
            full >> 10,
            full.saturating_sub(before) / SESSIONS as u64,
            ended.as_secs_f64(),
            after >> 10
        );
        // Both rounds are compared with the lowest memory before them, so memory that the first round does
        // not release shows in the second.
        before = before.min(after);
    }
    ensure!(bytes_each <= BYTES_MAX, "a session takes {bytes_each} bytes, more than {BYTES_MAX}");
    Ok(())
}

/// The resident memory of a server, in bytes, after an idle time.
fn resident_bytes(server: &Server) -> anyhow::Result<u64> {
    std::thread::sleep(SETTLE_TIME);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes << 10)
}

/// Opens `count` sessions and returns their identifiers.
pub(super) fn open_sessions(address: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let shares = (0..CONNECTIONS).map(|index| count / CONNECTIONS + usize::from(index < count % CONNECTIONS));
    run_in_parallel(shares.collect(), |share| {
        let mut line = HttpConnection::connect(address)?;
        (0..share).map(|_| line.open_session()).collect()
    })
}

/// Ends sessions.
fn end_sessions(address: &str, names: &[String]) -> anyhow::Result<()> {
    let shares = names.chunks(names.len().div_ceil(CONNECTIONS).max(1)).collect();
    run_in_parallel(shares, |share| {
        let mut line = HttpConnection::connect(address)?;
        for name in share {
            let (status, _) = line.send("DELETE", &format!("Mcp-Session-Id: {name}\r\n"), "")?;
            ensure!(status == 200, "a session was ended with {status}");
        }
        Ok(Vec::<()>::new())
    })
    .map(drop)
}

fn run_in_parallel<S: Send, T: Send>(
    shares: Vec<S>,
    work: impl Fn(S) -> anyhow::Result<Vec<T>> + Sync,
) -> anyhow::Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares.into_iter().map(|share| scope.spawn(move || work(share))).collect();
        let mut all = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(part) => all.extend(part?),
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(all)
    })
}

/// One keep-alive HTTP/1.1 connection.
struct HttpConnection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl HttpConnection {
    fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: address.to_owned() })
    }

    /// Performs the handshake of a client that declares every capability. Returns the session identifier.
    fn open_session(&mut self) -> anyhow::Result<String> {
        let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},"sampling":{},"elicitation":{}},"clientInfo":{"name":"bench","version":"1.0.0"}}}"#;
        let (status, name) = self.send("POST", "", hello)?;
        ensure!(status == 200, "initialize was answered with {status}");
        let name = name.context("initialize gave no session")?;
        let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let (status, _) = self.send("POST", &format!("Mcp-Session-Id: {name}\r\n"), ready)?;
        ensure!(status == 202, "notifications/initialized was answered with {status}");
        Ok(name)
    }

    /// Sends a request and reads its response: the status, and the session identifier in it.
    fn send(&mut self, method: &str, headers: &str, body: &str) -> anyhow::Result<(u16, Option<String>)> {
        let request = format!(
            "{method} /mcp HTTP/1.1\r\nHost: {}\r\n{headers}Content-Type: application/json\r\nAccept: application/json, \
             text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut status, mut length, mut session) = (String::new(), 0, 0, None);
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "the gateway hung up");
            let text = line.trim();
            if text.is_empty() {
                break;
            }
            match text.split_once(':') {
                None => status = text.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse()?
                }
                Some((name, value)) if name.eq_ignore_ascii_case("mcp-session-id") => {
                    session = Some(value.trim().to_owned());
                }
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, session))
    }
}
