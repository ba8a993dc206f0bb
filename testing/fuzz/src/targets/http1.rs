//! Responses of HTTP/1.1: how the bytes are divided does not matter, and what is accepted is read as hyper
//! reads it. Another reading would let one response pass for another.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{HeaderMap, Response, StatusCode};
use vmcp_http1::decode_response;

use super::{Target, divide, split_input};

pub(super) const TARGET: Target = Target {
    name: "http1",
    check,
    tokens: &[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "content-length: 2\r\n",
        "content-length: 0\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "connection: close\r\n",
        "connection: keep-alive\r\n",
        "\r\n\r\n",
        "0\r\n\r\n",
        "2\r\nhi\r\n",
        "A;x=y\r\n",
        "ffffffffffffffff\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        "+",
        "-",
        "0x",
    ],
    sources: &[],
};

/// How often the exchange and the connection are polled in turn. Each turn moves some of the stream.
const TURNS_MAX: usize = 10_000;

fn check(input: &[u8]) {
    let (cuts, stream) = split_input(input);
    let whole = decode_response(std::iter::once(stream));
    let bytewise = decode_response(stream.chunks(1));
    assert!(is_equal(&whole, &bytewise), "bytes one by one differ\n{whole:?}\n{bytewise:?}");
    let divided = decode_response(divide(cuts, stream).into_iter());
    assert!(is_equal(&whole, &divided), "the pieces differ from the whole\n{whole:?}\n{divided:?}");
    if let Ok(ours) = whole {
        let theirs =
            read_with_hyper(stream).unwrap_or_else(|error| panic!("hyper refuses it: {error}\n{ours:?}"));
        assert_eq!((ours.status(), ours.headers()), (theirs.0, &theirs.1), "another head");
        assert_eq!(*ours.body(), *theirs.2, "another body");
    }
}

type Outcome = Result<Response<Vec<u8>>, String>;

/// True if both are refused, or if both are accepted with equal contents.
fn is_equal(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => {
            (one.status(), one.headers(), one.body()) == (other.status(), other.headers(), other.body())
        }
        (Err(_), Err(_)) => true,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// The response that hyper's client reads from `stream`.
fn read_with_hyper(stream: &[u8]) -> Result<(StatusCode, HeaderMap, Bytes), String> {
    let text = |error: hyper::Error| format!("{error:?}");
    let (mut sender, connection) = ready(handshake::<_, Empty<Bytes>>(Stream::new(stream))).map_err(text)?;
    let mut request = hyper::Request::new(Empty::new());
    *request.method_mut() = hyper::Method::POST;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok((head.status, head.headers, body.collect().await?.to_bytes()))
    };
    let mut connection = pin!(connection);
    let mut exchange = pin!(exchange);
    ready(std::future::poll_fn(|cx| {
        // The connection moves bytes between the stream and the exchange.
        for _ in 0..TURNS_MAX {
            if let Poll::Ready(outcome) = exchange.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            let is_done = connection.as_mut().poll(cx).is_ready();
            if is_done {
                return exchange.as_mut().poll(cx);
            }
        }
        Poll::Pending
    }))
    .map_err(text)
}

/// The result of a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("hyper waits for more than the stream"),
    }
}

/// A connection whose server waits for a request, sends some bytes and closes.
struct Stream {
    unread: Bytes,
    has_request: bool,
}

impl Stream {
    fn new(bytes: &[u8]) -> Self {
        Self { unread: Bytes::copy_from_slice(bytes), has_request: false }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.has_request {
            return Poll::Pending;
        }
        let count = buffer.remaining().min(self.unread.len());
        buffer.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.has_request = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
