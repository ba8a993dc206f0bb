use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::PlainClient;
use crate::failure::{Class, Failure};
use crate::http::Outbound;

const IDLE: Duration = Duration::from_secs(4);

/// A server that gives each request the next of `answers`, and counts its connections.
struct Server {
    client: PlainClient,
    uri: Uri,
    connections: tokio::task::JoinHandle<usize>,
}

/// Serves so many connections; on each of them these answers, one for each request, and hangs up.
async fn serve(connections: Vec<Vec<&'static [u8]>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/mcp?x=1", listener.local_addr().unwrap()).parse().unwrap();
    let client = PlainClient::new(&uri, &HttpConnector::new(), IDLE).unwrap();
    let connections = tokio::spawn(async move {
        let mut count = 0;
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            count += 1;
            for answer in answers {
                if !take(&mut stream).await {
                    break;
                }
                stream.write_all(answer).await.unwrap();
            }
        }
        count
    });
    Server { client, uri, connections }
}

async fn take(stream: &mut TcpStream) -> bool {
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

impl Server {
    async fn ask(&self) -> Result<(StatusCode, String), Failure> {
        let outbound = Outbound {
            method: Method::POST,
            uri: self.uri.clone(),
            fixed: Arc::default(),
            headers: HeaderMap::new(),
            body: "body".into(),
        };
        let response = self.client.send(&outbound).await?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| Failure::broken(Class::Exited, error))?;
        Ok((status, String::from_utf8(body.to_bytes().to_vec()).unwrap()))
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
        let (found, text) = server.ask().await.unwrap();
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
        assert_eq!(server.ask().await.unwrap().1, expected);
        // The server has hung up by the time of the next request.
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
        let failure = server.ask().await.unwrap_err();
        assert!(matches!(failure, Failure::Broken(Class::Exited, _)), "{failure:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let server = serve(vec![vec![GOOD, GOOD], vec![GOOD]]).await;
    server.ask().await.unwrap();
    tokio::time::pause();
    tokio::time::advance(IDLE * 2).await;
    tokio::time::resume();
    server.ask().await.unwrap();
    assert_eq!(server.connections.await.unwrap(), 2);
}

#[tokio::test]
async fn a_server_need_not_read_what_it_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
    let client = PlainClient::new(&uri, &HttpConnector::new(), IDLE).unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream
    });
    let body = vec![b'x'; 32 << 20].into();
    let outbound =
        Outbound { method: Method::POST, uri, fixed: Arc::default(), headers: HeaderMap::new(), body };
    let response = client.send(&outbound).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    drop(serving.await.unwrap());
}
