//! Sends requests: takes an idle connection or opens one, writes, and reads the head of the response.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::uri::{Authority, Scheme};
use http::{Response, Uri};
use tokio::io::Interest;
use tower_service::Service;
use vmcp_http_client::{RequestError, TcpConnector, error_chain};

use crate::body::Http1Body;
use crate::head::{self, ResponseHead};
use crate::pool::{Http1Connection, Pool, TryRead};
use crate::request::Http1Request;

/// Maximum size of a body that is sent together with its head.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// The client of one origin.
#[derive(Debug)]
pub struct Http1Client {
    authority: Authority,
    connector: TcpConnector,
    pool: Arc<Pool>,
    /// True for a response whose body is needed as a whole; its body is read into one buffer.
    is_buffered_whole: fn(&Response<()>) -> bool,
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
    /// Connections are closed after `idle_timeout` without a request. The body of a response for which
    /// `is_buffered_whole` holds, and whose length is announced, arrives in one piece.
    #[must_use]
    pub fn new(
        uri: &Uri,
        connector: TcpConnector,
        idle_timeout: Duration,
        is_buffered_whole: fn(&Response<()>) -> bool,
    ) -> Option<Self> {
        let authority = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP))?;
        let pool = Pool::new(idle_timeout);
        Some(Self { authority: authority.clone(), connector, pool, is_buffered_whole })
    }

    /// True if `uri` is on this client's origin.
    #[must_use]
    pub fn is_same_origin(&self, uri: &Uri) -> bool {
        uri.scheme() == Some(&Scheme::HTTP) && uri.authority() == Some(&self.authority)
    }

    /// Sends a request once and reads the head of the response. A pooled connection that closes before it has
    /// taken any byte is replaced. Once a byte was sent, nothing is sent again.
    ///
    /// # Errors
    /// If no connection is established, or if it breaks before the head of the response is complete, or if the
    /// head is malformed.
    pub async fn send(&self, request: &Http1Request<'_>) -> Result<Response<Http1Body>, RequestError> {
        let joined = request.body.len() <= JOINED_BYTES_MAX;
        let mut head = head::encode_request_head(request, if joined { request.body.len() } else { 0 });
        if joined {
            head.extend_from_slice(request.body);
        }
        let rest = if joined { &Bytes::new() } else { request.body };
        let uri = request.uri;
        let request = RequestBytes { head: &head, body: rest, on_sent: request.on_sent };
        while let Some(mut connection) = self.pool.take_idle() {
            match write_request(&mut connection, request).await {
                Ok(sent) => return self.read_response(connection, sent).await,
                Err(SendError::NothingSent(_)) => {}
                Err(SendError::PartlySent(failure)) => return Err(failure),
            }
        }
        let mut connector = self.connector.clone();
        let connected = connector.call(uri.clone()).await;
        let stream = connected.map_err(|error| RequestError::from_connect_error(&error))?;
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
    ) -> Result<Response<Http1Body>, RequestError> {
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
        let buffer_whole = (self.is_buffered_whole)(&head.response);
        let body = Http1Body::new(connection, head.framing, buffer_whole, unsent, pool);
        Ok(head.response.map(|()| body))
    }
}

/// Parses the head of the answer; `None` until it has arrived completely.
fn try_parse_head(connection: &mut Http1Connection) -> Result<Option<ResponseHead>, RequestError> {
    head::parse_response_head(&mut connection.input).map_err(RequestError::Broken)
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

fn closed_early() -> RequestError {
    RequestError::Broken("connection closed before the answer was complete".to_owned())
}

fn io_failure(error: &io::Error) -> RequestError {
    RequestError::Broken(error_chain(error))
}

/// The bytes of a request: the head, including a short body, and a long body.
#[derive(Clone, Copy)]
struct RequestBytes<'a> {
    head: &'a [u8],
    body: &'a Bytes,
    on_sent: &'a (dyn Fn() + Sync),
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
    NothingSent(RequestError),
    /// Part of the request was sent.
    PartlySent(RequestError),
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
                (request.on_sent)();
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
