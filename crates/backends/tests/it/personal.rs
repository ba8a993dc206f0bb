//! Backends that receive each caller's own credential, obtained from a scripted token endpoint: what callers
//! share, what is sent, and what happens to callers that the issuer or the backend refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use vmcp_backends::policy::{BackendPolicy, Transport};
use vmcp_credentials::{Strategy, TokenExchangePolicy, TokenUrl};
use vmcp_domain::{
    BackendEvent, BackendState, CallContext, CallOrigin, Caller, Error, Identity, IsolationScope,
    ProtocolVersion, Secret,
};
use vmcp_json::Members;

use crate::web::McpServer as _;
use crate::web::{self, ReceivedRequest, ScriptedServer};
use crate::{Harness, TIMEOUTS, context, eventually, http_policy, policy};

/// A token endpoint that exchanges `TOKEN` for `got-N-NEKOT`, and refuses tokens that contain `bad`.
async fn token_endpoint() -> ScriptedServer {
    let count = Arc::new(AtomicUsize::new(0));
    web::serve(move |request| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            let token = request.text.split('&').find_map(|pair| pair.strip_prefix("subject_token="));
            match token {
                Some(bad) if bad.contains("bad") => web::reply_json(400, &json!({"error": "invalid_grant"})),
                Some(token) => web::reply_json(
                    200,
                    &json!({"access_token": format!("got-{number}-{}", reversed(token)), "token_type": "Bearer",
                            "expires_in": 600,
                            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}),
                ),
                None => web::reply_json(400, &json!({"error": "unauthorized_client"})),
            }
        }
    })
    .await
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

fn token_exchange_policy(backend: &ScriptedServer, token_url: &str) -> BackendPolicy {
    let url = TokenUrl::parse("tokenUrl", token_url, false).unwrap();
    let credentials = Some(Strategy::TokenExchange(TokenExchangePolicy::new(url)));
    let transport = Transport::StreamableHttp(http_policy(&backend.url()));
    BackendPolicy { credentials, ..policy(transport, TIMEOUTS) }
}

/// A caller with this subject, which presents `token`.
fn caller_context(subject: &str, token: &str) -> CallContext {
    let issuer = "https://issuer.example".to_owned();
    let identity = Identity { issuer, subject: subject.to_owned(), claims: Members::new() };
    let mut ctx = CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client);
    ctx.protocol = ProtocolVersion::V2025_11_25;
    ctx.token = Some(Secret::new(token));
    ctx
}

/// The owner of an exchanged token: tokens end in their owner's name before they are exchanged.
fn token_owner(exchanged: &str) -> String {
    reversed(exchanged.split('-').nth(2).unwrap_or_default())
}

fn bearer_token(request: &ReceivedRequest) -> &str {
    request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("")
}

/// A server with sessions that accepts exchanged tokens, and keeps one session for each token owner.
async fn authenticating_server(revoked: impl Fn(&str) -> bool + Send + Sync + 'static) -> ScriptedServer {
    web::serve(move |request| {
        let token = bearer_token(&request).to_owned();
        let (owner, refused) = (token_owner(&token), revoked(&token));
        async move {
            if !token.starts_with("got-") || refused {
                return web::reply_empty(401);
            }
            let session = format!("session-of-{owner}");
            if request.header("mcp-session-id").is_some_and(|shown| shown != session) {
                return web::reply_empty(500);
            }
            let mut reply = web::reply_with_sessions(&request);
            if request.rpc_method() == "initialize" {
                reply.headers_mut().insert("mcp-session-id", session.parse().unwrap());
            }
            reply
        }
    })
    .await
}

#[tokio::test]
async fn each_caller_has_a_session_and_a_token_of_its_own() {
    let (issuer, server) = (token_endpoint().await, authenticating_server(|_| false).await);
    let harness = Harness::start(token_exchange_policy(&server, &issuer.url()));
    let (ann, kim) = (caller_context("ann", "ann"), caller_context("kim", "kim"));
    assert!(harness.backend.has_caller_credentials());
    assert_ne!(harness.backend.scope(&ann).unwrap(), harness.backend.scope(&kim).unwrap());
    assert!(matches!(harness.backend.scope(&ann), Ok(IsolationScope::Caller(_))));
    for _ in 0..50 {
        let (one, other) = tokio::join!(harness.call(&ann, "echo", "{}"), harness.call(&kim, "echo", "{}"));
        one.unwrap();
        other.unwrap();
    }
    assert_eq!(harness.backend.fetch_inventory(&ann).await.unwrap().tools.len(), 1);
    assert_eq!(issuer.requests().len(), 2, "one exchange for each caller");
    assert_eq!(
        server.with_method("initialize").iter().filter(|request| !bearer_token(request).is_empty()).count(),
        2
    );
    let calls = server.with_method("tools/call");
    assert_eq!(calls.len(), 100);
    for call in &calls {
        let session = format!("session-of-{}", token_owner(bearer_token(call)));
        assert_eq!(call.header("mcp-session-id"), Some(&*session));
    }
    // The callers' own tokens are sent to the issuer only.
    for request in server.requests().iter() {
        assert!(!["ann", "kim"].contains(&bearer_token(request)));
    }
    // The backend refused the gateway's own connection, as it should.
    harness.wait_for_state(BackendState::Ready).await;
    harness.stop().await;
    for owner in ["ann", "kim"] {
        let session = format!("session-of-{owner}");
        let ends = |request: &ReceivedRequest| {
            request.http_method == http::Method::DELETE && request.header("mcp-session-id") == Some(&*session)
        };
        server.wait_for_request(ends).await;
    }
}

#[tokio::test]
async fn a_session_outlives_the_thread_that_first_asked_for_it() {
    let (issuer, server) = (token_endpoint().await, authenticating_server(|_| false).await);
    let harness = Arc::new(Harness::start(token_exchange_policy(&server, &issuer.url())));
    let ann = caller_context("ann", "ann");
    // Like a thread of the edge, which ends before the backends are stopped.
    let first = {
        let (harness, ann) = (Arc::clone(&harness), ann.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(harness.call(&ann, "echo", "{}")).map(drop)
        })
    };
    tokio::task::spawn_blocking(|| first.join().unwrap()).await.unwrap().unwrap();
    harness.call(&ann, "echo", "{}").await.unwrap();
    assert_eq!(
        server.with_method("initialize").iter().filter(|request| !bearer_token(request).is_empty()).count(),
        1
    );
    harness.stop().await;
    server.wait_for_request(|request| request.http_method == http::Method::DELETE).await;
}

#[tokio::test]
async fn a_newer_token_of_the_same_caller_goes_on_in_the_same_session() {
    let (issuer, server) = (token_endpoint().await, authenticating_server(|_| false).await);
    let harness = Harness::start(token_exchange_policy(&server, &issuer.url()));
    harness.call(&caller_context("ann", "first-ann"), "echo", "{}").await.unwrap();
    harness.call(&caller_context("ann", "second-ann"), "echo", "{}").await.unwrap();
    let calls: Vec<String> =
        server.with_method("tools/call").iter().map(|request| bearer_token(request).to_owned()).collect();
    assert_eq!(calls, ["got-1-nna-tsrif", "got-2-nna-dnoces"]);
    assert_eq!(
        server.with_method("initialize").iter().filter(|request| !bearer_token(request).is_empty()).count(),
        1
    );
}

#[tokio::test]
async fn a_kept_token_that_was_revoked_is_exchanged_anew_once() {
    let revoked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&revoked);
    let issuer = token_endpoint().await;
    let server =
        authenticating_server(move |token| seen.load(Ordering::Relaxed) && token.starts_with("got-1-")).await;
    let harness = Harness::start(token_exchange_policy(&server, &issuer.url()));
    let ann = caller_context("ann", "ann");
    harness.call(&ann, "echo", "{}").await.unwrap();
    revoked.store(true, Ordering::Relaxed);
    harness.call(&ann, "echo", "{}").await.unwrap();
    harness.call(&ann, "echo", "{}").await.unwrap();
    let tokens: Vec<String> =
        server.with_method("tools/call").iter().map(|request| bearer_token(request).to_owned()).collect();
    assert_eq!(tokens, ["got-1-nna", "got-1-nna", "got-2-nna", "got-2-nna"]);
    assert_eq!(issuer.requests().len(), 2);
}

#[tokio::test]
async fn whom_the_issuer_or_the_backend_refuses_is_denied_and_others_go_on() {
    let issuer = token_endpoint().await;
    let server = authenticating_server(|token| token_owner(token) == "ida").await;
    let harness = Harness::start(token_exchange_policy(&server, &issuer.url()));
    let mut unshown = caller_context("ann", "ann");
    unshown.token = None;
    for nobody in [context(), unshown] {
        assert!(matches!(harness.call(&nobody, "echo", "{}").await, Err(Error::Denied)));
        assert!(matches!(harness.backend.fetch_inventory(&nobody).await, Err(Error::Denied)));
    }
    assert!(matches!(harness.call(&caller_context("mal", "bad"), "echo", "{}").await, Err(Error::Denied)));
    let refused = harness.call(&caller_context("ida", "ida"), "echo", "{}").await;
    assert!(matches!(refused, Err(Error::Denied)), "{refused:?}");
    assert!(server.with_method("tools/call").is_empty());
    harness.call(&caller_context("ann", "ann"), "echo", "{}").await.unwrap();
    // A caller that returns with a valid token is accepted at once.
    harness.call(&caller_context("mal", "good-mal"), "echo", "{}").await.unwrap();
    assert_eq!(server.with_method("tools/call").len(), 2);
}

#[tokio::test]
async fn a_token_endpoint_that_is_away_is_the_backends_trouble_and_not_the_callers() {
    let server = authenticating_server(|_| false).await;
    // Nothing listens on the discard port of this machine.
    let harness = Harness::start(token_exchange_policy(&server, "http://127.0.0.1:9/token"));
    let refused = harness.call(&caller_context("ann", "ann"), "echo", "{}").await;
    assert!(matches!(refused, Err(Error::BackendUnavailable { .. })), "{refused:?}");
    assert!(server.with_method("tools/call").is_empty());
}

#[tokio::test]
async fn events_say_whose_line_they_came_on() {
    let issuer = token_endpoint().await;
    let server = web::serve(|request| async move {
        if bearer_token(&request).is_empty() {
            return web::reply_empty(401);
        }
        if request.http_method == http::Method::GET {
            let (events, reply) = web::event_stream();
            events
                .send(web::encode_event(
                    &json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
                ))
                .unwrap();
            // The stream stays open.
            tokio::spawn(async move { events.closed().await });
            return reply;
        }
        web::reply_with_sessions(&request)
    })
    .await;
    let harness = Harness::start(token_exchange_policy(&server, &issuer.url()));
    let ann = caller_context("ann", "ann");
    harness.call(&ann, "echo", "{}").await.unwrap();
    harness.events.wait_for_events(&BackendEvent::ToolsChanged, 1).await;
    let scope = harness.backend.scope(&ann).unwrap();
    eventually(|| harness.events.scopes().contains(&scope).then_some(())).await;
    assert!(
        harness.events.scopes().iter().all(|heard| *heard == scope),
        "the gateway's own look hears nothing"
    );
}
