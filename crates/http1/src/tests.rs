use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use vmcp_http_client::{AddressPolicy, ClientSettings, IDLE_TIMEOUT, RequestError, TcpConnector, Trust};

use super::{Http1Body, Http1Client, Http1Request};

fn tcp_connector() -> TcpConnector {
    let settings = ClientSettings {
        trust: Trust::Nothing,
        addresses: AddressPolicy::Anywhere,
        connect_timeout: Duration::from_secs(5),
        idle_max: 1,
        idle_timeout: IDLE_TIMEOUT,
    };
    settings.tcp_connector()
}

/// A server that gives each request the next of the given answers, and counts its connections.
struct Server {
    client: Http1Client,
    uri: Uri,
    connections: tokio::task::JoinHandle<usize>,
}

/// Accepts one connection for each element of `connections`. On each it sends the given answers, one for each
/// request, and then closes it.
async fn serve(connections: Vec<Vec<&'static [u8]>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/mcp?x=1", listener.local_addr().unwrap()).parse().unwrap();
    let client = client(&uri);
    let connections = tokio::spawn(async move {
        let mut count = 0;
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            count += 1;
            for answer in answers {
                if !read_request(&mut stream).await {
                    break;
                }
                stream.write_all(answer).await.unwrap();
            }
        }
        count
    });
    Server { client, uri, connections }
}

async fn read_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.ends_with(b"body") {
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => seen.extend_from_slice(&buffer[..read]),
            _ => return false,
        }
    }
    let text = String::from_utf8(seen).unwrap();
    assert!(text.starts_with("POST /mcp?x=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{text}");
    assert!(text.contains("content-length: 4\r\n\r\nbody"), "{text}");
    true
}

fn client(uri: &Uri) -> Http1Client {
    Http1Client::new(uri, tcp_connector(), IDLE_TIMEOUT, |_| true).unwrap()
}

/// Sends a POST and reads the whole response.
async fn post(client: &Http1Client, uri: &Uri, body: Bytes) -> Result<(StatusCode, String), RequestError> {
    let response = start_post(client, uri, body).await?;
    let status = response.status();
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| RequestError::Broken(error.to_string()))?;
    Ok((status, String::from_utf8(body.to_bytes().to_vec()).unwrap()))
}

async fn start_post(
    client: &Http1Client,
    uri: &Uri,
    body: Bytes,
) -> Result<Response<Http1Body>, RequestError> {
    let (method, none) = (Method::POST, HeaderMap::new());
    let request =
        Http1Request { method: &method, uri, headers: [&none, &none], body: &body, on_sent: &|| () };
    client.send(&request).await
}

impl Server {
    async fn request(&self) -> Result<(StatusCode, String), RequestError> {
        post(&self.client, &self.uri, "body".into()).await
    }
}

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const CHUNKS: &[u8] =
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\none\r\nA\r\n two three\r\n0\r\nx: y\r\n\r\n";

#[tokio::test]
async fn a_connection_is_used_again_after_every_kind_of_answer() {
    let none = b"HTTP/1.1 204 No Content\r\n\r\n";
    let early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let server = serve(vec![vec![GOOD, CHUNKS, none, early, GOOD]]).await;
    let expected = [(200, "hi"), (200, "one two three"), (204, ""), (200, ""), (200, "hi")];
    for (status, body) in expected {
        let (found, text) = server.request().await.unwrap();
        assert_eq!((found.as_u16(), &*text), (status, body));
    }
    assert_eq!(server.connections.await.unwrap(), 1);
}

#[tokio::test]
async fn a_connection_that_ends_is_replaced_before_anything_is_sent() {
    let close = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    let open = b"HTTP/1.1 200 OK\r\n\r\nuntil the end";
    let both = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let old = b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    let server = serve(vec![vec![close], vec![open], vec![both], vec![old], vec![GOOD], vec![GOOD]]).await;
    for expected in ["hi", "until the end", "", "hi", "hi", "hi"] {
        assert_eq!(server.request().await.unwrap().1, expected);
        // The server has closed the connection by the time of the next request.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.connections.await.unwrap(), 6);
}

#[tokio::test]
async fn an_answer_that_cannot_be_right_is_refused() {
    let wrong: [&[u8]; 8] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nlonger\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"this is not HTTP\r\n\r\n",
    ];
    for answer in wrong {
        let server = serve(vec![vec![answer]]).await;
        let failure = server.request().await.unwrap_err();
        assert!(matches!(failure, RequestError::Broken(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let server = serve(vec![vec![GOOD, GOOD], vec![GOOD]]).await;
    server.request().await.unwrap();
    tokio::time::pause();
    tokio::time::advance(IDLE_TIMEOUT * 2).await;
    tokio::time::resume();
    server.request().await.unwrap();
    assert_eq!(server.connections.await.unwrap(), 2);
}

/// Sends a long body to a server that sends `early` after the first bytes, and then runs `continuation`. The value
/// that `continuation` returns stays open until the answer has been read.
async fn send_long_body<F, K>(
    early: &'static [u8],
    continuation: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> Result<(StatusCode, String), RequestError>
where
    F: Future<Output = K> + Send,
    K: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
    let client = client(&uri);
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        stream.write_all(early).await.unwrap();
        continuation(stream).await
    });
    let mut body = vec![b'x'; LONG];
    body.push(b'z');
    let answer = post(&client, &uri, body.into());
    let answer = tokio::time::timeout(Duration::from_secs(20), answer)
        .await
        .expect("client and server wait for each other");
    drop(serving.await.unwrap());
    answer
}

const LONG: usize = 32 << 20;

/// Reads the rest of a long request.
async fn read_all(stream: &mut TcpStream) {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the rest comes");
        if buffer[read - 1] == b'z' {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_need_not_read_what_it_refuses() {
    let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    let (status, _) = send_long_body(refusal, async |stream| stream).await.unwrap();
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    // The server may also close the connection while the request is being sent.
    let (status, _) = send_long_body(refusal, async |_| {}).await.unwrap();
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_server_may_say_that_it_is_there_before_it_has_everything() {
    for early in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 2",
    ] {
        let rest = if early.ends_with('2') { &GOOD[10..] } else { GOOD };
        let answer = send_long_body(early.as_bytes(), async move |mut stream| {
            read_all(&mut stream).await;
            stream.write_all(rest).await.unwrap();
        });
        assert_eq!(answer.await.unwrap(), (StatusCode::OK, "hi".to_owned()));
    }
}

#[tokio::test]
async fn a_server_may_answer_while_it_still_reads() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = send_long_body(head, async |mut stream| {
        read_all(&mut stream).await;
        stream.write_all(b"2\r\nhi\r\n0\r\n\r\n").await.unwrap();
    });
    assert_eq!(answer.await.unwrap(), (StatusCode::OK, "hi".to_owned()));
}

#[tokio::test]
async fn a_connection_goes_back_to_the_thread_that_made_it() {
    let server = serve(vec![vec![CHUNKS, GOOD]]).await;
    let response = start_post(&server.client, &server.uri, "body".into()).await.unwrap();
    // Another thread reads the end of the body.
    let reading = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(response.into_body().collect()).map(|body| body.to_bytes())
    };
    let body = tokio::task::spawn_blocking(reading).await.unwrap().unwrap();
    assert_eq!(body, "one two three");
    assert_eq!(server.request().await.unwrap().1, "hi");
    assert_eq!(server.connections.await.unwrap(), 1);
}
