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

pub(crate) use self::body::Http1Body;
use self::head::ResponseHead;
use self::pool::{Http1Connection, Pool, TryRead};
use crate::call_hold::SentFlag;
use crate::failure::{Failure, FailureClass, error_chain};
use crate::http::client::OutboundRequest;
use crate::http::response_body::ResponseBody;

/// Bodies up to this size are sent together with their head.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// The client of one origin.
#[derive(Debug)]
pub(crate) struct Http1Client {
    authority: Authority,
    connector: HttpConnector,
    pool: Arc<Pool>,
}

/// How far a request got.
enum SendOutcome {
    /// All of it.
    Complete,
    /// The answer began to come before all of it was taken.
    EarlyResponse(ResponseHead, Bytes),
}

impl Http1Client {
    /// A client for the origin of `uri`, with nothing connected yet. `None` if that is not plain HTTP.
    pub(crate) fn new(uri: &Uri, connector: &HttpConnector, idle_wait: Duration) -> Option<Self> {
        let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP))?;
        let pool = Pool::new(idle_wait);
        Some(Self { authority: authority.clone(), connector: connector.clone(), pool })
    }

    /// True when `uri` is of this client's origin.
    pub(crate) fn is_same_origin(&self, uri: &Uri) -> bool {
        uri.scheme() == Some(&Scheme::HTTP) && uri.authority() == Some(&self.authority)
    }

    /// Sends once and reads the head of the answer. A kept connection that turns out to be closed before it has taken
    /// anything is replaced; once something was sent, nothing is sent again.
    pub(crate) async fn send(&self, outbound: &OutboundRequest) -> Result<Response<ResponseBody>, Failure> {
        let joined = outbound.body.len() <= JOINED_BYTES_MAX;
        let mut first = head::encode_request_head(outbound, if joined { outbound.body.len() } else { 0 });
        if joined {
            first.extend_from_slice(&outbound.body);
        }
        let rest = if joined { &Bytes::new() } else { &outbound.body };
        let request = RequestBytes { head: &first, body: rest, sent_flag: &outbound.sent_flag };
        while let Some(mut connection) = self.pool.take_idle() {
            match write_request(&mut connection, request).await {
                Ok(sent) => return self.read_response(connection, sent).await,
                Err(SendError::NothingSent(_)) => {}
                Err(SendError::PartlySent(failure)) => return Err(failure),
            }
        }
        let mut connector = self.connector.clone();
        let connected = connector.call(outbound.uri.clone()).await;
        let stream =
            connected.map_err(|error| Failure::not_sent(FailureClass::Connect, error_chain(&error)))?;
        let mut connection = Http1Connection::new(stream.into_inner());
        match write_request(&mut connection, request).await {
            Ok(sent) => self.read_response(connection, sent).await,
            Err(SendError::NothingSent(failure) | SendError::PartlySent(failure)) => Err(failure),
        }
    }

    async fn read_response(
        &self,
        mut connection: Http1Connection,
        sent: SendOutcome,
    ) -> Result<Response<ResponseBody>, Failure> {
        let (head, unsent) = match sent {
            SendOutcome::EarlyResponse(head, unsent) => (head, unsent),
            SendOutcome::Complete => loop {
                if let Some(head) = try_parse_head(&mut connection)? {
                    break (head, Bytes::new());
                }
                let read = connection.read().await.map_err(|error| io_failure(&error))?;
                if read == 0 {
                    return Err(closed_early());
                }
            },
        };
        // Who refuses a request need not take the rest of it (RFC 9112 section 9.5); who takes it up waits for that.
        let goes_on = unsent.is_empty() || head.response.status().is_success();
        let unsent = if goes_on { unsent } else { Bytes::new() };
        let pool = (head.keep_alive && goes_on).then(|| Arc::clone(&self.pool));
        let body = Http1Body::new(connection, head.framing, unsent, pool);
        Ok(head.response.map(|()| ResponseBody::from_http1(body)))
    }
}

/// The head of the answer, if all of it is there.
fn try_parse_head(connection: &mut Http1Connection) -> Result<Option<ResponseHead>, Failure> {
    head::parse_response_head(&mut connection.input)
        .map_err(|fault| Failure::indeterminate(FailureClass::Exited, fault))
}

/// The head of an answer that came before the connection broke.
async fn read_final_head(connection: &mut Http1Connection) -> Option<ResponseHead> {
    loop {
        match try_parse_head(connection) {
            Ok(None) if connection.read().await.is_ok_and(|read| read > 0) => {}
            head => return head.ok().flatten(),
        }
    }
}

fn closed_early() -> Failure {
    Failure::indeterminate(FailureClass::Exited, "connection closed before the answer was complete")
}

fn io_failure(error: &io::Error) -> Failure {
    Failure::indeterminate(FailureClass::Exited, error_chain(error))
}

/// A request as it is sent: its head with a short body, and a long body.
#[derive(Clone, Copy)]
struct RequestBytes<'a> {
    head: &'a [u8],
    body: &'a Bytes,
    sent_flag: &'a SentFlag,
}

impl RequestBytes<'_> {
    /// The last so many bytes of it.
    fn tail(self, left: usize) -> Bytes {
        match left.checked_sub(self.body.len()) {
            None | Some(0) => self.body.slice(self.body.len() - left..),
            Some(of_first) => [&self.head[self.head.len() - of_first..], self.body].concat().into(),
        }
    }
}

/// How a request failed to be sent.
enum SendError {
    /// Not a byte of it was taken.
    NothingSent(Failure),
    /// Some of it was.
    PartlySent(Failure),
}

/// Writes a request. Meanwhile the answer may begin: a server that refuses a long body need not read it. One that only says
/// that it is still there (1xx) waits for the rest.
async fn write_request(
    connection: &mut Http1Connection,
    request: RequestBytes<'_>,
) -> Result<SendOutcome, SendError> {
    let mut parts = request.head.chain(&request.body[..]);
    let total = parts.remaining();
    let unsent = |left: usize, failure| {
        if left == total { SendError::NothingSent(failure) } else { SendError::PartlySent(failure) }
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
            Ok(0) => return Err(unsent(left, io_failure(&io::ErrorKind::WriteZero.into()))),
            Ok(written) => {
                request.sent_flag.set();
                parts.advance(written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let ready = connection.stream.ready(Interest::READABLE | Interest::WRITABLE).await;
                let ready = ready.map_err(|error| unsent(left, io_failure(&error)))?;
                let heard = if ready.is_readable() { connection.try_read() } else { TryRead::WouldBlock };
                if heard != TryRead::WouldBlock && left == total {
                    return Err(SendError::NothingSent(closed_early()));
                }
                match heard {
                    TryRead::WouldBlock => {}
                    TryRead::Data => {
                        if let Some(head) = try_parse_head(connection).map_err(SendError::PartlySent)? {
                            return Ok(SendOutcome::EarlyResponse(head, request.tail(left)));
                        }
                    }
                    TryRead::Closed => return Err(SendError::PartlySent(closed_early())),
                }
            }
            Err(error) => {
                // Why nothing more is taken may have been said before.
                if left < total
                    && let Some(head) = read_final_head(connection).await
                {
                    return Ok(SendOutcome::EarlyResponse(head, request.tail(left)));
                }
                return Err(unsent(left, io_failure(&error)));
            }
        }
    }
    Ok(SendOutcome::Complete)
}

#[cfg(test)]
mod tests;
