//! HTTP/1.1 without TLS, for the shortest way to a backend: a request is written and its answer is read by the very task
//! that wants it, on a kept connection, without a task of the connection's own in between. What is sent and what answers
//! mean is `http`'s; over TLS, where HTTP/2 may be spoken, it uses another client.

mod body;
mod head;
mod pool;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::uri::{Authority, Scheme};
use http::{Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::Interest;
use tower_service::Service;

pub(crate) use self::body::PlainBody;
use self::head::ResponseHead;
use self::pool::{Connection, Heard, Pool};
use crate::arriving::Arriving;
use crate::failure::{Class, Failure, chain};
use crate::held::Left;
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
    Answered(ResponseHead, Bytes),
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
        let rest = if joined { &Bytes::new() } else { &outbound.body };
        let request = Whole { first: &first, rest, left: &outbound.left };
        while let Some(mut connection) = self.pool.take() {
            match put(&mut connection, request).await {
                Ok(sent) => return self.read(connection, sent).await,
                Err(Unsent::Nothing(_)) => {}
                Err(Unsent::Partly(failure)) => return Err(failure),
            }
        }
        let mut connector = self.connector.clone();
        let connected = connector.call(outbound.uri.clone()).await;
        let stream = connected.map_err(|error| Failure::not_sent(Class::Connect, chain(&error)))?;
        let mut connection = Connection::new(stream.into_inner());
        match put(&mut connection, request).await {
            Ok(sent) => self.read(connection, sent).await,
            Err(Unsent::Nothing(failure) | Unsent::Partly(failure)) => Err(failure),
        }
    }

    async fn read(&self, mut connection: Connection, sent: Sent) -> Result<Response<Arriving>, Failure> {
        let (head, unsent) = match sent {
            Sent::Answered(head, unsent) => (head, unsent),
            Sent::Whole => loop {
                if let Some(head) = taken(&mut connection)? {
                    break (head, Bytes::new());
                }
                let read = connection.read().await.map_err(|error| broken(&error))?;
                if read == 0 {
                    return Err(hung_up());
                }
            },
        };
        // Who refuses a request need not take the rest of it (RFC 9112 section 9.5); who takes it up waits for that.
        let goes_on = unsent.is_empty() || head.response.status().is_success();
        let unsent = if goes_on { unsent } else { Bytes::new() };
        let pool = (head.keeps && goes_on).then(|| Arc::clone(&self.pool));
        let body = PlainBody::new(connection, head.length, unsent, pool);
        Ok(head.response.map(|()| Arriving::plain(body)))
    }
}

/// The head of the answer, if all of it is there.
fn taken(connection: &mut Connection) -> Result<Option<ResponseHead>, Failure> {
    head::read(&mut connection.input).map_err(|fault| Failure::broken(Class::Exited, fault))
}

/// The head of an answer that came before the connection broke.
async fn last_words(connection: &mut Connection) -> Option<ResponseHead> {
    loop {
        match taken(connection) {
            Ok(None) if connection.read().await.is_ok_and(|read| read > 0) => {}
            head => return head.ok().flatten(),
        }
    }
}

fn hung_up() -> Failure {
    Failure::broken(Class::Exited, "connection closed before the answer was complete")
}

fn broken(error: &io::Error) -> Failure {
    Failure::broken(Class::Exited, chain(error))
}

/// A request as it is sent: its head with a short body, and a long body.
#[derive(Clone, Copy)]
struct Whole<'a> {
    first: &'a [u8],
    rest: &'a Bytes,
    left: &'a Left,
}

impl Whole<'_> {
    /// The last so many bytes of it.
    fn last(self, left: usize) -> Bytes {
        match left.checked_sub(self.rest.len()) {
            None | Some(0) => self.rest.slice(self.rest.len() - left..),
            Some(of_first) => [&self.first[self.first.len() - of_first..], self.rest].concat().into(),
        }
    }
}

/// How a request failed to be sent.
enum Unsent {
    /// Not a byte of it was taken.
    Nothing(Failure),
    /// Some of it was.
    Partly(Failure),
}

/// Writes a request. Meanwhile the answer may begin: a server that refuses a long body need not read it. One that only says
/// that it is still there (1xx) waits for the rest.
async fn put(connection: &mut Connection, request: Whole<'_>) -> Result<Sent, Unsent> {
    let mut parts = request.first.chain(&request.rest[..]);
    let total = parts.remaining();
    let unsent = |left: usize, failure| {
        if left == total { Unsent::Nothing(failure) } else { Unsent::Partly(failure) }
    };
    while parts.has_remaining() {
        let mut slices = [io::IoSlice::new(&[]); 2];
        let written = match parts.chunks_vectored(&mut slices) {
            // Costs the system a little less than a list of one.
            1 => connection.stream.try_write(&slices[0]),
            count => connection.stream.try_write_vectored(slices.get(..count).unwrap_or_default()),
        };
        let left = parts.remaining();
        match written {
            Ok(0) => return Err(unsent(left, broken(&io::ErrorKind::WriteZero.into()))),
            Ok(written) => {
                request.left.set();
                parts.advance(written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let ready = connection.stream.ready(Interest::READABLE | Interest::WRITABLE).await;
                let ready = ready.map_err(|error| unsent(left, broken(&error)))?;
                let heard = if ready.is_readable() { connection.hear() } else { Heard::Nothing };
                if heard != Heard::Nothing && left == total {
                    return Err(Unsent::Nothing(hung_up()));
                }
                match heard {
                    Heard::Nothing => {}
                    Heard::Something => {
                        if let Some(head) = taken(connection).map_err(Unsent::Partly)? {
                            return Ok(Sent::Answered(head, request.last(left)));
                        }
                    }
                    Heard::End => return Err(Unsent::Partly(hung_up())),
                }
            }
            Err(error) => {
                // Why nothing more is taken may have been said before.
                if left < total
                    && let Some(head) = last_words(connection).await
                {
                    return Ok(Sent::Answered(head, request.last(left)));
                }
                return Err(unsent(left, broken(&error)));
            }
        }
    }
    Ok(Sent::Whole)
}

#[cfg(test)]
mod tests;
