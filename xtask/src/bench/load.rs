//! The load generator: kept HTTP/1.1 connections, each of which sends its next prepared request as soon as the answer to
//! the last has come. One thread serves them all, so that it takes little from whoever is measured, and every answer is
//! looked at: a fast refusal is no result.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::exchange::Line;
use super::shot::{Shot, Target};

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
pub(crate) fn fire(
    target: &Target,
    shots: &[Shot],
    connections: usize,
    lasting: Duration,
) -> anyhow::Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ready = JoinSet::new();
        for place in 0..connections {
            let (target, shots) = (target.clone(), shots.to_vec());
            ready.spawn(async move { prepare(&target, &shots, place).await });
        }
        let mut lines = Vec::with_capacity(connections);
        while let Some(line) = ready.join_next().await {
            lines.push(line??);
        }
        measure(lines, lasting).await
    })
}

/// A connection, and what is sent on it.
struct Loaded {
    line: Line,
    shots: Vec<Shot>,
    next: usize,
}

/// Connects, opens a session if need be, and makes one call of each kind, so that nothing is measured that happens once.
async fn prepare(target: &Target, shots: &[Shot], place: usize) -> anyhow::Result<Loaded> {
    let stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    let mut line = Line::new(stream);
    let session = target.open(&mut line).await?;
    let shots: Vec<Shot> =
        shots.iter().map(|shot| shot.addressed(target, session.as_deref())).collect::<anyhow::Result<_>>()?;
    ensure!(!shots.is_empty(), "there is something to send");
    let mut loaded = Loaded { line, next: place % shots.len(), shots };
    loaded.once().await?;
    Ok(loaded)
}

impl Loaded {
    /// One exchange; gives the size of the answer's body.
    async fn once(&mut self) -> anyhow::Result<usize> {
        let shot = self.shots.get(self.next).context("there is a next request")?;
        self.next = (self.next + 1) % self.shots.len();
        let answer = self.line.exchange(shot.bytes()).await?;
        shot.check(&answer)?;
        Ok(answer.length)
    }
}

async fn measure(lines: Vec<Loaded>, lasting: Duration) -> anyhow::Result<Sample> {
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
                bytes += line.once().await?;
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
