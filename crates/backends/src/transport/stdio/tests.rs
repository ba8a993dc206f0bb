//! The stdio transport over in-memory streams; the test plays the backend line by line.

use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, Lines as ReadLines, ReadHalf, WriteHalf, split};
use vmcp_domain::{AskError, ClientCapabilities, ClientPort, LogLevel, ProtocolVersion, Question};
use vmcp_json::{Json, Members};
use vmcp_wire::method;

use super::*;
use crate::ClientInfo;
use crate::connection::link::{Link, McpRequest};
use crate::connection::pending_requests::{Purpose, RequestHandle};
use crate::connection::requester::Requester;
use crate::lifecycle::probe;

struct Peer {
    lines: ReadLines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
}

impl Peer {
    /// The identifier and the method of the next message.
    async fn read_message(&mut self) -> (String, String) {
        let line = self.lines.next_line().await.unwrap().unwrap();
        let members = Json::parse(line).unwrap().members().unwrap();
        let text = |name: &str| members.get(name).map_or("", Json::as_str).to_owned();
        (text("id"), text("method").replace('"', ""))
    }

    async fn read_line(&mut self) -> String {
        self.lines.next_line().await.unwrap().unwrap()
    }

    async fn write_line(&mut self, line: &str) {
        self.writer.write_all(line.as_bytes()).await.unwrap();
        self.writer.write_all(b"\n").await.unwrap();
    }

    async fn send_result(&mut self, id: &str, result: &str) {
        self.write_line(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)).await;
    }

    async fn send_error(&mut self, id: &str, code: i64) {
        let error = format!(r#"{{"code":{code},"message":"m"}}"#);
        self.write_line(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)).await;
    }
}

fn pair() -> (Arc<DuplexLink>, Peer, StdioContext) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (reader, writer) = split(ours);
    let event_sender = Arc::new(EventSender::new("b".into()));
    let context =
        StdioContext::new(&event_sender, &TaskTracker::new(), &Arc::default(), Duration::from_secs(30));
    let link = open(reader, writer, &context);
    let (reader, writer) = split(theirs);
    let peer = Peer { lines: BufReader::new(reader).lines(), writer };
    (link, peer, context)
}

fn call(arguments: &str) -> McpRequest {
    McpRequest::maintenance(method::TOOLS_CALL, Json::parse(arguments.to_owned()).unwrap())
}

fn register(link: &DuplexLink) -> RequestHandle {
    link.pending_requests().register(Purpose::Maintenance).unwrap()
}

#[derive(Debug, Default)]
struct Client(ClientCapabilities, Mutex<Vec<String>>);

impl Client {
    fn received(&self) -> String {
        self.1.lock().unwrap().join("; ")
    }
}

impl ClientPort for Client {
    fn wants_progress(&self) -> bool {
        true
    }

    fn progress(&self, params: Members) {
        self.1.lock().unwrap().push(params.to_json().as_str().to_owned());
    }

    fn log_level(&self) -> Option<LogLevel> {
        Some(LogLevel::Info)
    }

    fn log(&self, level: LogLevel, _params: Members) {
        self.1.lock().unwrap().push(level.as_str().to_owned());
    }

    fn elicitation_complete(&self, _params: Members) {}

    fn capabilities(&self) -> &ClientCapabilities {
        &self.0
    }

    fn client_key(&self) -> Option<vmcp_domain::ClientKey> {
        None
    }

    fn ask(&self, _question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        self.1.lock().unwrap().push("asked".to_owned());
        Box::pin(std::future::ready(Ok(Json::boolean(true))))
    }
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (link, mut peer, _wiring) = pair();
    let tickets: Vec<RequestHandle> = (0..50).map(|_| register(&link)).collect();
    let asking = tickets.iter().map(|handle| link.exchange(handle, call("{}")));
    let asking = futures_util::future::join_all(asking);
    let answering = async {
        let mut ids = Vec::new();
        for _ in 0..50 {
            ids.push(peer.read_message().await.0);
        }
        for id in ids.iter().rev() {
            peer.send_result(id, id).await;
        }
    };
    let (answers, ()) = tokio::join!(asking, answering);
    for (handle, answer) in tickets.iter().zip(answers) {
        assert_eq!(answer.unwrap().as_str(), handle.id().to_string());
    }
}

#[tokio::test]
async fn a_dropped_request_is_cancelled_and_its_late_answer_ignored() {
    let (link, mut peer, _wiring) = pair();
    let handle = register(&link);
    let mut asking = link.exchange(&handle, call("{}"));
    let request = tokio::select! {
        _ = &mut asking => panic!("answered"),
        request = peer.read_message() => request,
    };
    drop(asking);
    drop(handle);
    let cancelled = peer.read_line().await;
    assert!(cancelled.contains("notifications/cancelled"), "{cancelled}");
    assert!(cancelled.contains(&format!(r#""requestId":{}"#, request.0)), "{cancelled}");
    peer.send_result(&request.0, "\"late\"").await;
    let next = register(&link);
    let (answer, ()) = tokio::join!(link.exchange(&next, call("{}")), async {
        let (id, _) = peer.read_message().await;
        assert_ne!(id, request.0);
        peer.send_result(&id, "\"own\"").await;
    });
    assert_eq!(answer.unwrap().as_str(), "\"own\"");
}

#[tokio::test]
async fn the_end_of_the_stream_ends_every_request() {
    let (link, mut peer, context) = pair();
    let handle = register(&link);
    let (outcome, ()) = tokio::join!(link.exchange(&handle, call("{}")), async {
        peer.read_message().await;
        drop(peer);
    });
    assert!(matches!(outcome, Err(Failure::Indeterminate(FailureClass::Exited, _))));
    assert_eq!(context.close_signal.reason(), Some(CloseReason::Failed(FailureClass::Exited)));
    let handle = register(&link);
    let outcome = link.exchange(&handle, call("{}")).await;
    assert!(matches!(outcome, Err(Failure::NotSent(FailureClass::Exited, _))));
}

#[tokio::test]
async fn garbage_is_borne_after_a_message_and_not_for_ever_before() {
    let (link, mut peer, context) = pair();
    let handle = register(&link);
    let (outcome, ()) = tokio::join!(link.exchange(&handle, call("{}")), async {
        let (id, _) = peer.read_message().await;
        peer.write_line("starting…").await;
        peer.send_result(&id, "{}").await;
    });
    outcome.unwrap();
    let line = format!("{{\"msg\":\"{}\"}}", "x".repeat(64 << 10));
    for _ in 0..2 * BANNER_BYTES_MAX / line.len() {
        peer.write_line(&line).await;
    }
    assert_eq!(context.close_signal.reason(), None);

    let (_link, mut peer, context) = pair();
    for _ in 0..10_000 {
        peer.write_line("{\"level\":\"info\"}").await;
    }
    assert_eq!(context.close_signal.reason(), None);
    for _ in 0..=(BANNER_BYTES_MAX - 160_000) / line.len() {
        peer.write_line(&line).await;
    }
    assert_eq!(context.close_signal.closed().await, CloseReason::Failed(FailureClass::Protocol));
}

#[tokio::test]
async fn what_is_said_meanwhile_reaches_the_calls_under_way() {
    let (link, mut peer, _wiring) = pair();
    let clients: [Arc<Client>; 2] = Default::default();
    let requester = Requester { client: None, caller: vmcp_domain::Caller::Anonymous, address: None };
    let port = |client: &Arc<Client>| Purpose::Call(Arc::<Client>::clone(client), requester.clone());
    let first = link.pending_requests().register(port(&clients[0])).unwrap();
    let mut one = link.exchange(&first, call("{}"));
    tokio::select! {
        _ = &mut one => panic!("answered"),
        _ = peer.read_message() => {}
    }
    let question = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#;
    peer.write_line(question).await;
    assert_eq!(peer.read_line().await, r#"{"jsonrpc":"2.0","id":"q","result":true}"#);

    // With two calls in flight, the recipient of a question is ambiguous.
    let second = link.pending_requests().register(port(&clients[1])).unwrap();
    peer.write_line(question).await;
    assert!(peer.read_line().await.contains(r#""error":{"code":-32603"#));
    peer.write_line(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#).await;
    assert_eq!(peer.read_line().await, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);

    let progress = format!(r#"{{"progressToken":{},"progress":0.50}}"#, second.id());
    peer.write_line(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{progress}}}"#))
        .await;
    let message = |level: &str| {
        let params = format!(r#"{{"level":"{level}","data":1}}"#);
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{params}}}"#)
    };
    // So is the recipient of a log message: it may belong to the other call.
    peer.write_line(&message("alert")).await;
    peer.send_result(&first.id().to_string(), "1").await;
    one.await.unwrap();
    peer.write_line(&message("debug")).await;
    peer.write_line(&message("error")).await;
    peer.write_line(r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#).await;
    assert_eq!(peer.read_line().await, r#"{"jsonrpc":"2.0","id":8,"result":{}}"#);
    assert_eq!(clients[0].received(), "asked");
    assert_eq!(clients[1].received(), r#"{"progress":0.50}; error"#);
}

fn identity() -> ClientInfo {
    ClientInfo { name: "vmcp".to_owned(), version: "1".to_owned() }
}

const DISCOVERED: &str = r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#;
const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#;
const CONNECT_WAIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_probe_decides_when_it_is_answered() {
    let (link, mut peer, context) = pair();
    let identity = identity();
    let negotiation = probe::duplex::negotiate(&link, &identity, &context.first_output, CONNECT_WAIT);
    let (negotiated, ()) = tokio::join!(negotiation, async {
        let (id, method) = peer.read_message().await;
        assert_eq!(method, "server/discover");
        peer.send_result(&id, DISCOVERED).await;
    });
    assert_eq!(negotiated.unwrap().version, ProtocolVersion::V2026_07_28);
    // Backends of that version send no requests, and get no answers.
    peer.write_line(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    let handle = register(&link);
    let mut asking = link.exchange(&handle, call("{}"));
    tokio::select! {
        _ = &mut asking => panic!("answered"),
        (_, method) = peer.read_message() => assert_eq!(method, "tools/call"),
    }
}

#[tokio::test]
async fn any_other_error_leads_to_the_handshake() {
    let (link, mut peer, context) = pair();
    let identity = identity();
    let negotiation = probe::duplex::negotiate(&link, &identity, &context.first_output, CONNECT_WAIT);
    let (negotiated, ()) = tokio::join!(negotiation, async {
        let (id, _) = peer.read_message().await;
        peer.send_error(&id, -32602).await;
        let (id, method) = peer.read_message().await;
        assert_eq!(method, "initialize");
        peer.send_result(&id, INITIALIZED).await;
        assert_eq!(peer.read_message().await.1, "notifications/initialized");
    });
    assert_eq!(negotiated.unwrap().version, ProtocolVersion::V2025_11_25);
}

/// A backend that starts to read late finds both messages, and answers them with `discover` and `initialize`.
async fn negotiate_late(
    discover: Option<&str>,
    initialize: Option<&str>,
) -> Result<ProtocolVersion, Failure> {
    let (link, mut peer, context) = pair();
    let identity = identity();
    let negotiation = probe::duplex::negotiate(&link, &identity, &context.first_output, CONNECT_WAIT);
    let answering = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        for answer in [discover, initialize] {
            let (id, _) = peer.read_message().await;
            match answer {
                Some("") => {}
                Some(answer) => peer.send_result(&id, answer).await,
                None => peer.send_error(&id, -32601).await,
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        negotiated = negotiation => negotiated.map(|introduction| introduction.version),
        () = answering => Err(Failure::Overloaded),
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_backend_is_understood_whatever_it_speaks() {
    let session = negotiate_late(None, Some(INITIALIZED)).await;
    assert_eq!(session.unwrap(), ProtocolVersion::V2025_11_25);
    let both = negotiate_late(Some(DISCOVERED), Some(INITIALIZED)).await;
    assert_eq!(both.unwrap(), ProtocolVersion::V2025_11_25);
    let stateless = negotiate_late(Some(DISCOVERED), None).await;
    assert_eq!(stateless.unwrap(), ProtocolVersion::V2026_07_28);
    let half = negotiate_late(Some(DISCOVERED), Some("")).await;
    assert_eq!(half.unwrap(), ProtocolVersion::V2026_07_28);
    assert!(matches!(negotiate_late(None, None).await, Err(Failure::Refused(_))));
}
