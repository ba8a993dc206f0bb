//! The load generator. It uses keep-alive HTTP/1.1 connections, each of which sends its next prepared request
//! as soon as it has received the last response. One thread serves all connections, so that the generator
//! takes little CPU from the measured server. Every response is checked: a fast refusal does not count as a
//! result.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bench::connection::Connection;
use crate::bench::request::{Request, Target};

/// The result of one round of one contender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Responses per second.
    pub(crate) rate: f64,
    /// Median latency in microseconds.
    pub(crate) median_us: f64,
    /// Latency at the 99th percentile, in microseconds.
    pub(crate) p99_us: f64,
    /// Body bytes per second.
    pub(crate) bytes: f64,
}

/// Sends `requests` in turn on `connections` connections for the duration `duration`. Blocks the calling thread
/// on a single-threaded runtime.
pub(crate) fn send(
    target: &Target,
    requests: &[Request],
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ready = JoinSet::new();
        for index in 0..connections {
            let (target, requests) = (target.clone(), requests.to_vec());
            ready.spawn(async move { open_connection(&target, &requests, index).await });
        }
        let mut open_connections = Vec::with_capacity(connections);
        while let Some(connection) = ready.join_next().await {
            open_connections.push(connection??);
        }
        measure(open_connections, duration).await
    })
}

/// A connection, and the requests that are sent on it in turn.
struct LoadedConnection {
    connection: Connection,
    requests: Vec<Request>,
    next: usize,
}

/// Connects, opens a session if the protocol family has sessions, and makes one call, so that one-time costs
/// are not measured.
async fn open_connection(
    target: &Target,
    requests: &[Request],
    index: usize,
) -> anyhow::Result<LoadedConnection> {
    let stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    let mut connection = Connection::new(stream);
    let session = target.open_session(&mut connection).await?;
    let requests: Vec<Request> = requests
        .iter()
        .map(|request| request.encode_for(target, session.as_deref()))
        .collect::<anyhow::Result<_>>()?;
    ensure!(!requests.is_empty(), "there is something to send");
    let mut loaded = LoadedConnection { connection, next: index % requests.len(), requests };
    loaded.send_next().await?;
    Ok(loaded)
}

impl LoadedConnection {
    /// Sends the next request and checks its response. Returns the size of the body in bytes.
    async fn send_next(&mut self) -> anyhow::Result<usize> {
        let request = self.requests.get(self.next).context("there is a next request")?;
        self.next = (self.next + 1) % self.requests.len();
        let answer = self.connection.exchange(request.bytes()).await?;
        request.check(&answer)?;
        Ok(answer.body_length)
    }
}

async fn measure(open_connections: Vec<LoadedConnection>, duration: Duration) -> anyhow::Result<Sample> {
    let begun = Instant::now();
    let stop = begun + duration;
    let mut running = JoinSet::new();
    for mut connection in open_connections {
        running.spawn(async move {
            let (mut times, mut bytes) = (Vec::with_capacity(4096), 0);
            loop {
                let sent = Instant::now();
                if sent >= stop {
                    return anyhow::Ok((times, bytes));
                }
                bytes += connection.send_next().await?;
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
