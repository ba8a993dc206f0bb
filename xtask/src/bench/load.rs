//! The load generator: kept HTTP/1.1 connections, each of which sends its next prepared request as soon as the answer to
//! the last has come. One thread serves them all, so that it takes little from whoever is measured, and every answer is
//! looked at: a fast refusal is no result.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::exchange::Connection;
use super::shot::{Request, Target};

/// What one round of one contender came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Answers per second.
    pub(crate) rate: f64,
    /// Half of all answers came within so many microseconds.
    pub(crate) median_us: f64,
    /// Ninety-nine in a hundred did.
    pub(crate) p99_us: f64,
    /// Bytes of bodies per second.
    pub(crate) bytes: f64,
}

/// Sends `shots` in turn on so many connections for as long as `lasting`, on a thread of its own.
pub(crate) fn send(
    target: &Target,
    shots: &[Request],
    connections: usize,
    lasting: Duration,
) -> anyhow::Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ready = JoinSet::new();
        for place in 0..connections {
            let (target, shots) = (target.clone(), shots.to_vec());
            ready.spawn(async move { open_connection(&target, &shots, place).await });
        }
        let mut lines = Vec::with_capacity(connections);
        while let Some(line) = ready.join_next().await {
            lines.push(line??);
        }
        measure(lines, lasting).await
    })
}

/// A connection, and what is sent on it.
struct LoadedConnection {
    connection: Connection,
    requests: Vec<Request>,
    next: usize,
}

/// Connects, opens a session if need be, and makes one call of each kind, so that nothing is measured that happens once.
async fn open_connection(
    target: &Target,
    shots: &[Request],
    place: usize,
) -> anyhow::Result<LoadedConnection> {
    let stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    let mut line = Connection::new(stream);
    let session = target.open_session(&mut line).await?;
    let shots: Vec<Request> = shots
        .iter()
        .map(|shot| shot.encode_for(target, session.as_deref()))
        .collect::<anyhow::Result<_>>()?;
    ensure!(!shots.is_empty(), "there is something to send");
    let mut loaded = LoadedConnection { connection: line, next: place % shots.len(), requests: shots };
    loaded.send_next().await?;
    Ok(loaded)
}

impl LoadedConnection {
    /// One exchange; gives the size of the answer's body.
    async fn send_next(&mut self) -> anyhow::Result<usize> {
        let shot = self.requests.get(self.next).context("there is a next request")?;
        self.next = (self.next + 1) % self.requests.len();
        let answer = self.connection.exchange(shot.bytes()).await?;
        shot.check(&answer)?;
        Ok(answer.body_length)
    }
}

async fn measure(lines: Vec<LoadedConnection>, lasting: Duration) -> anyhow::Result<Sample> {
    let begun = Instant::now();
    let stop = begun + lasting;
    let mut running = JoinSet::new();
    for mut line in lines {
        running.spawn(async move {
            let (mut times, mut bytes) = (Vec::with_capacity(4096), 0);
            loop {
                let sent = Instant::now();
                if sent >= stop {
                    return anyhow::Ok((times, bytes));
                }
                bytes += line.send_next().await?;
                times.push(u32::try_from(sent.elapsed().as_nanos() / 10).unwrap_or(u32::MAX));
            }
        });
    }
    let (mut times, mut bytes) = (Vec::new(), 0);
    while let Some(ended) = running.join_next().await {
        let (more, size) = ended??;
        times.extend(more);
        bytes += size;
    }
    let took = begun.elapsed().as_secs_f64();
    if times.is_empty() {
        bail!("no call was answered");
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| f64::from(*time) / 100.0);
    Ok(Sample {
        rate: times.len() as f64 / took,
        median_us: at(50),
        p99_us: at(99),
        bytes: bytes as f64 / took,
    })
}
