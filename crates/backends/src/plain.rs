//! HTTP/1.1 without TLS, for the shortest way to a backend: a request is written and its answer is read by the very task
//! that wants it, on a kept connection, without a task of the connection's own in between. What is sent and what answers
//! mean is `http`'s; over TLS, where HTTP/2 may be spoken, it uses another client.

mod body;
mod head;
mod pool;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use http::uri::{Authority, Scheme};
use http::{Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::Interest;
use tower_service::Service;

pub(crate) use self::body::PlainBody;
use self::pool::{Connection, Pool};
use crate::arriving::Arriving;
use crate::failure::{Class, Failure, chain};
use crate::http::Outbound;

/// Bodies up to this size are sent together with their head.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// The client of one origin.
#[derive(Debug)]
pub(crate) struct PlainClient {
    authority: Authority,
    connector: HttpConnector,
    pool: Arc<Pool>,
}

/// How far a request got.
enum Sent {
    /// All of it.
    Whole,
    /// The answer began to come before all of it was taken.
    Partly,
}

impl PlainClient {
    /// A client for the origin of `uri`, with nothing connected yet. `None` if that is not plain HTTP.
    pub(crate) fn new(uri: &Uri, connector: &HttpConnector, idle_wait: Duration) -> Option<Self> {
        let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP))?;
        let pool = Pool::new(idle_wait);
        Some(Self { authority: authority.clone(), connector: connector.clone(), pool })
    }

    /// True when `uri` is of this client's origin.
    pub(crate) fn serves(&self, uri: &Uri) -> bool {
        uri.scheme() == Some(&Scheme::HTTP) && uri.authority() == Some(&self.authority)
    }

    /// Sends once and reads the head of the answer. A kept connection that turns out to be closed before it has taken
    /// anything is replaced; once something was sent, nothing is sent again.
    pub(crate) async fn send(&self, outbound: &Outbound) -> Result<Response<Arriving>, Failure> {
        let joined = outbound.body.len() <= JOINED_BYTES_MAX;
        let mut first = head::write(outbound, if joined { outbound.body.len() } else { 0 });
        if joined {
            first.extend_from_slice(&outbound.body);
        }
        let parts = [&first[..], if joined { &[] } else { &outbound.body[..] }];
        while let Some(mut connection) = self.pool.take() {
            match put(&mut connection, parts).await {
                Ok(sent) => return self.read(connection, sent).await,
                Err(Unsent::Nothing(_)) => {}
                Err(Unsent::Partly(error)) => return Err(broken(&error)),
            }
        }
        let mut connector = self.connector.clone();
        let connected = connector.call(outbound.uri.clone()).await;
        let stream = connected.map_err(|error| Failure::not_sent(Class::Connect, chain(&error)))?;
        let mut connection = Connection::new(stream.into_inner());
        match put(&mut connection, parts).await {
            Ok(sent) => self.read(connection, sent).await,
            Err(Unsent::Nothing(error) | Unsent::Partly(error)) => Err(broken(&error)),
        }
    }

    async fn read(&self, mut connection: Connection, sent: Sent) -> Result<Response<Arriving>, Failure> {
        loop {
            match head::read(&mut connection.input).map_err(|fault| Failure::broken(Class::Exited, fault))? {
                Some(head) => {
                    // A request that was not taken whole would stand before the next one.
                    let keeps = head.keeps && matches!(sent, Sent::Whole);
                    let body = PlainBody::new(connection, head.length, keeps.then(|| Arc::clone(&self.pool)));
                    return Ok(head.response.map(|()| Arriving::Plain(body)));
                }
                None => {
                    let read = connection.read().await.map_err(|error| broken(&error))?;
                    if read == 0 {
                        let text = "connection closed before the answer was complete";
                        return Err(Failure::broken(Class::Exited, text));
                    }
                }
            }
        }
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::broken(Class::Exited, chain(error))
}

/// How a request failed to be sent.
enum Unsent {
    /// Not a byte of it was taken.
    Nothing(io::Error),
    /// Some of it was.
    Partly(io::Error),
}

/// Writes a request. Meanwhile the answer may begin: a server that refuses a long body need not read it.
async fn put(connection: &mut Connection, [first, rest]: [&[u8]; 2]) -> Result<Sent, Unsent> {
    let mut parts = first.chain(rest);
    let total = parts.remaining();
    let unsent = |left: usize, error| {
        if left == total { Unsent::Nothing(error) } else { Unsent::Partly(error) }
    };
    while parts.has_remaining() {
        let mut slices = [io::IoSlice::new(&[]); 2];
        let written = match parts.chunks_vectored(&mut slices) {
            // Costs the system a little less than a list of one.
            1 => connection.stream.try_write(&slices[0]),
            count => connection.stream.try_write_vectored(slices.get(..count).unwrap_or_default()),
        };
        match written {
            Ok(0) => return Err(unsent(parts.remaining(), io::ErrorKind::WriteZero.into())),
            Ok(written) => parts.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let ready = connection.stream.ready(Interest::READABLE | Interest::WRITABLE).await;
                let ready = ready.map_err(|error| unsent(parts.remaining(), error))?;
                if ready.is_readable() && connection.has_begun() {
                    if parts.remaining() == total {
                        return Err(Unsent::Nothing(io::ErrorKind::ConnectionAborted.into()));
                    }
                    return Ok(Sent::Partly);
                }
            }
            Err(error) => return Err(unsent(parts.remaining(), error)),
        }
    }
    Ok(Sent::Whole)
}

#[cfg(test)]
mod tests;
