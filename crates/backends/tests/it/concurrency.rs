//! Many concurrent calls: every answer reaches its own call.

use std::sync::Arc;
use std::time::Duration;

use vmcp_backends::policy::{BackendPolicy, CallerBounds, Isolation, ProcessPolicy, Transport};
use vmcp_backends::{Backends, ClientInfo};
use vmcp_domain::Continuation;
use vmcp_json::{Json, Members};

use crate::web::McpServer as _;
use crate::web::{self, ReceivedRequest};
use crate::{TIMEOUTS, context, http_policy, structured_content};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_over_fifty_backends() {
    let mut servers = Vec::new();
    let mut policies = Vec::new();
    for number in 0..50 {
        let server = web::serve(move |request: ReceivedRequest| async move {
            if request.rpc_method() == "tools/call" {
                // Later calls overtake earlier ones.
                let n = request.body["params"]["arguments"]["n"].as_u64().unwrap();
                tokio::time::sleep(Duration::from_millis((n * 7) % 23)).await;
                if n.is_multiple_of(2) {
                    let (events, reply) = web::event_stream();
                    events
                        .send(web::encode_event(&web::result_message(&request, &web::echo_result(&request))))
                        .unwrap();
                    return reply;
                }
            }
            if number % 2 == 0 { web::reply_with_sessions(&request) } else { web::reply_stateless(&request) }
        })
        .await;
        policies.push(BackendPolicy {
            id: format!("b{number}").into(),
            transport: Transport::StreamableHttp(http_policy(&server.url())),
            timeouts: TIMEOUTS,
            headers: Vec::new(),
            isolation: Isolation::Shared,
            caller_bounds: CallerBounds::DEFAULT,
            credentials: None,
        });
        servers.push(server);
    }
    let identity = ClientInfo { name: "vmcp".to_owned(), version: "1".to_owned() };
    let backends = Arc::new(Backends::start(policies, &identity, &ProcessPolicy::default(), None).unwrap());
    let calls = (0..1000_usize).map(|n| {
        let backends = Arc::clone(&backends);
        tokio::spawn(async move {
            let backend = backends.get(&format!("b{}", n % 50).into()).unwrap();
            let arguments = format!("{{\"n\":{n}}}");
            let reply = backend
                .call_tool(
                    &context(),
                    "echo".into(),
                    Some(Json::parse(arguments.clone()).unwrap()),
                    Continuation::default(),
                    Members::new(),
                )
                .await;
            assert_eq!(structured_content(&reply), arguments);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    backends.shutdown(Duration::from_secs(2)).await;
}
