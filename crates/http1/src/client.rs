//! HTTP/1.1 without TLS, for the lowest latency to a backend. The calling task itself writes the request and
//! reads the answer on a pooled connection; there is no separate connection task. `client` builds the
//! requests and interprets the responses. Over TLS, where HTTP/2 is possible, it uses another client.

mod body;
mod head;
mod pool;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::uri::{Authority, Scheme};
use http::{Response, Uri};
use tokio::io::Interest;
use tower_service::Service;
use vmcp_http_client::{TcpConnector, error_chain};

pub(crate) use self::body::Http1Body;
use self::head::ResponseHead;
use self::pool::{Http1Connection, Pool, TryRead};
use crate::call_hold::SentFlag;
use crate::failure::{Failure, FailureClass};
use crate::http::client::OutboundRequest;
use crate::http::response_body::ResponseBody;

/// Maximum size of a body that is sent together with its head.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// The client of one origin.
#[derive(Debug)]
pub(crate) struct Http1Client {
    authority: Authority,
    connector: TcpConnector,
    pool: Arc<Pool>,
}

/// How much of a request was sent.
enum SendOutcome {
    /// The whole request.
    Complete,
    /// The answer began before the whole request was sent. Contains the response head and the unsent bytes.
    EarlyResponse(ResponseHead, Bytes),
}

impl Http1Client {
    /// Creates a client for the origin of `uri` without connecting. `None` if its scheme is not `http`.
    pub(crate) fn new(uri: &Uri, connector: TcpConnector, idle_timeout: Duration) -> Option<Self> {
        let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP))?;
        let pool = Pool::new(idle_timeout);
        Some(Self { authority: authority.clone(), connector, pool })
    }

    /// True if `uri` is on this client's origin.
    pub(crate) fn is_same_origin(&self, uri: &Uri) -> bool {
        uri.scheme() == Some(&Scheme::HTTP) && uri.authority() == Some(&self.authority)
    }

    /// Sends a request once and reads the head of the answer. A pooled connection that closes before it has
    /// taken any byte is replaced. Once a byte was sent, nothing is sent again.
    pub(crate) async fn send(&self, outbound: &OutboundRequest) -> Result<Response<ResponseBody>, Failure> {
        let joined = outbound.body.len() <= JOINED_BYTES_MAX;
        let mut head = head::encode_request_head(outbound, if joined { outbound.body.len() } else { 0 });
        if joined {
            head.extend_from_slice(&outbound.body);
        }
        let rest = if joined { &Bytes::new() } else { &outbound.body };
        let request = RequestBytes { head: &head, body: rest, sent_flag: &outbound.sent_flag };
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
        // A server that refuses a request need not read the rest of it (RFC 9112 section 9.5). A server that
        // accepts it waits for the rest.
        let is_rest_wanted = unsent.is_empty() || head.response.status().is_success();
        let unsent = if is_rest_wanted { unsent } else { Bytes::new() };
        let pool = (head.keep_alive && is_rest_wanted).then(|| Arc::clone(&self.pool));
        let body = Http1Body::new(connection, head.framing, unsent, pool);
        Ok(head.response.map(|()| ResponseBody::from_http1(body)))
    }
}

/// Parses the head of the answer; `None` until it has arrived completely.
fn try_parse_head(connection: &mut Http1Connection) -> Result<Option<ResponseHead>, Failure> {
    head::parse_response_head(&mut connection.input)
        .map_err(|fault| Failure::indeterminate(FailureClass::Exited, fault))
}

/// Reads the head of an answer that arrived before the connection broke.
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

/// The bytes of a request: the head, including a short body, and a long body.
#[derive(Clone, Copy)]
struct RequestBytes<'a> {
    head: &'a [u8],
    body: &'a Bytes,
    sent_flag: &'a SentFlag,
}

impl RequestBytes<'_> {
    /// The last `remaining` bytes of the request.
    fn tail(self, remaining: usize) -> Bytes {
        match remaining.checked_sub(self.body.len()) {
            None | Some(0) => self.body.slice(self.body.len() - remaining..),
            Some(of_first) => [&self.head[self.head.len() - of_first..], self.body].concat().into(),
        }
    }
}

/// How sending a request failed.
enum SendError {
    /// Not a byte was sent.
    NothingSent(Failure),
    /// Part of the request was sent.
    PartlySent(Failure),
}

/// Writes a request. The answer may begin meanwhile, because a server that refuses a long body need not read
/// it. After an informational response (1xx) writing continues.
async fn write_request(
    connection: &mut Http1Connection,
    request: RequestBytes<'_>,
) -> Result<SendOutcome, SendError> {
    let mut parts = request.head.chain(&request.body[..]);
    let total_bytes = parts.remaining();
    let unsent = |remaining: usize, failure| {
        if remaining == total_bytes {
            SendError::NothingSent(failure)
        } else {
            SendError::PartlySent(failure)
        }
    };
    while parts.has_remaining() {
        let mut slices = [io::IoSlice::new(&[]); 2];
        let written = match parts.chunks_vectored(&mut slices) {
            // A plain write costs the system slightly less than a vectored write of one slice.
            1 => connection.stream.try_write(&slices[0]),
            count => connection.stream.try_write_vectored(slices.get(..count).unwrap_or_default()),
        };
        let remaining = parts.remaining();
        match written {
            Ok(0) => return Err(unsent(remaining, io_failure(&io::ErrorKind::WriteZero.into()))),
            Ok(written) => {
                request.sent_flag.set();
                parts.advance(written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let ready = connection.stream.ready(Interest::READABLE | Interest::WRITABLE).await;
                let ready = ready.map_err(|error| unsent(remaining, io_failure(&error)))?;
                let try_read = if ready.is_readable() { connection.try_read() } else { TryRead::WouldBlock };
                if try_read != TryRead::WouldBlock && remaining == total_bytes {
                    return Err(SendError::NothingSent(closed_early()));
                }
                match try_read {
                    TryRead::WouldBlock => {}
                    TryRead::Data => {
                        if let Some(head) = try_parse_head(connection).map_err(SendError::PartlySent)? {
                            return Ok(SendOutcome::EarlyResponse(head, request.tail(remaining)));
                        }
                    }
                    TryRead::Closed => return Err(SendError::PartlySent(closed_early())),
                }
            }
            Err(error) => {
                // The server may have sent the reason before it stopped reading.
                if remaining < total_bytes
                    && let Some(head) = read_final_head(connection).await
                {
                    return Ok(SendOutcome::EarlyResponse(head, request.tail(remaining)));
                }
                return Err(unsent(remaining, io_failure(&error)));
            }
        }
    }
    Ok(SendOutcome::Complete)
}

#[cfg(test)]
mod tests;
