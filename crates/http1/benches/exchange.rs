//! Processor time of one exchange, of this client and of hyper's `conn::http1` polled in the calling task, in
//! turns in one run. Both send to the same server, which runs on other threads and is not counted.
//!
//! `cargo bench -p vmcp-http1`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that fails panics")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;
use vmcp_http_client::{AddressPolicy, ClientSettings, IDLE_TIMEOUT, Trust};
use vmcp_http1::{Http1Client, Http1Request};

/// How often each client is measured. The medians are printed.
const ROUNDS: usize = 9;

/// A kind of response.
struct Case {
    name: &'static str,
    body_bytes: usize,
    chunked: bool,
    exchanges: u32,
}

const CASES: [Case; 4] = [
    Case { name: "300 bytes", body_bytes: 300, chunked: false, exchanges: 10_000 },
    Case { name: "300 bytes in a chunk", body_bytes: 300, chunked: true, exchanges: 10_000 },
    Case { name: "64 KiB", body_bytes: 64 << 10, chunked: false, exchanges: 5000 },
    Case { name: "1 MiB", body_bytes: 1 << 20, chunked: false, exchanges: 500 },
];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for case in &CASES {
        let (own, hyper) = runtime.block_on(measure(case));
        println!("{}: {:.1} µs, hyper {:.1} µs, ratio {:.2}", case.name, own * 1e6, hyper * 1e6, hyper / own);
    }
}

/// The median processor time of an exchange in seconds: of this client, and of hyper.
async fn measure(case: &Case) -> (f64, f64) {
    let address = serve(response(case));
    let uri: Uri = format!("http://{address}/mcp").parse().unwrap();
    let settings = ClientSettings {
        trust: Trust::Nothing,
        addresses: AddressPolicy::Anywhere,
        connect_timeout: Duration::from_secs(5),
        idle_max: 1,
        idle_timeout: IDLE_TIMEOUT,
    };
    let own = Http1Client::new(&uri, settings.tcp_connector(), IDLE_TIMEOUT, |_| true).unwrap();
    let mut hyper = HyperClient::connect(address).await;
    let (mut own_times, mut hyper_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = thread_seconds();
        for _ in 0..case.exchanges {
            assert_eq!(exchange(&own, &uri).await, case.body_bytes);
        }
        let middle = thread_seconds();
        for _ in 0..case.exchanges {
            assert_eq!(hyper.exchange(&uri).await, case.body_bytes);
        }
        own_times.push((middle - start) / f64::from(case.exchanges));
        hyper_times.push((thread_seconds() - middle) / f64::from(case.exchanges));
    }
    (median(own_times), median(hyper_times))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The processor time of this thread.
fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap().as_secs_f64()
}

fn headers() -> [HeaderMap; 2] {
    let value = HeaderValue::from_static;
    let fixed = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("user-agent", "vmcp/0.1.0"),
        ("mcp-session-id", "0123456789abcdef"),
    ];
    let fixed = fixed.map(|(name, text)| (name.parse().unwrap(), value(text)));
    let own = [("mcp-protocol-version".parse().unwrap(), value("2025-11-25"))];
    [fixed.into_iter().collect(), own.into_iter().collect()]
}

/// The body of a request. The server recognises its end.
fn body() -> Bytes {
    [&[b'x'; 200][..], b"end."].concat().into()
}

async fn exchange(client: &Http1Client, uri: &Uri) -> usize {
    let [fixed, own] = headers();
    let request =
        Http1Request { method: &Method::POST, uri, headers: [&fixed, &own], body: &body(), on_sent: &|| () };
    let response = client.send(&request).await.unwrap();
    response.into_body().collect().await.unwrap().to_bytes().len()
}

/// One connection of hyper, without a task of its own.
struct HyperClient {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
}

impl HyperClient {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        Self { sender, connection: Box::pin(connection) }
    }

    async fn exchange(&mut self, uri: &Uri) -> usize {
        let mut request = http::Request::new(Full::new(body()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/mcp");
        let [fixed, own] = headers();
        let mut all = own;
        all.extend(fixed);
        all.insert("host", uri.authority().unwrap().as_str().parse().unwrap());
        *request.headers_mut() = all;
        let sending = self.sender.send_request(request);
        let response = drive(&mut self.connection, pin!(sending)).await.unwrap();
        let body = drive(&mut self.connection, pin!(response.into_body().collect())).await.unwrap();
        let Self { sender, connection } = self;
        drive(connection, pin!(sender.ready())).await.unwrap();
        body.to_bytes().len()
    }
}

/// Polls `future`, and the connection that it depends on, until it is ready.
async fn drive<C: Future, F: Future>(connection: &mut Pin<Box<C>>, mut future: Pin<&mut F>) -> F::Output {
    std::future::poll_fn(|cx: &mut Context<'_>| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        let _ = connection.as_mut().poll(cx);
        future.as_mut().poll(cx)
    })
    .await
}

fn response(case: &Case) -> Vec<u8> {
    let mut response = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-cache\r\n\
        mcp-session-id: 0123456789abcdef\r\n"
        .to_vec();
    let body = vec![b'a'; case.body_bytes];
    if case.chunked {
        write!(response, "transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()).unwrap();
        response.extend(body);
        response.extend(b"\r\n0\r\n\r\n");
    } else {
        write!(response, "content-length: {}\r\n\r\n", body.len()).unwrap();
        response.extend(body);
    }
    response
}

/// Answers every request on every connection with the same bytes.
fn serve(response: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, response) = (stream.unwrap(), response.clone());
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let (mut buffer, mut received) = ([0; 4096], Vec::new());
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    received.extend_from_slice(&buffer[..read]);
                    if received.ends_with(b"end.") {
                        received.clear();
                        if stream.write_all(&response).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}
