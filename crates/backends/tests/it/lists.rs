//! Inventories: all pages, and the errors that a backend may make in them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use serde_json::{Value, json};
use vmcp_backends::policy::{Timeouts, Transport};

use crate::web::McpServer as _;
use crate::web::{self, HttpReply, ReceivedRequest};
use crate::{Harness, TIMEOUTS, context, http_policy, policy};

/// A server that answers `tools/list` with `page`, which receives the cursor.
async fn paged_server(
    page: impl Fn(Option<&str>) -> Value + Send + Sync + Clone + 'static,
) -> (web::ScriptedServer, Harness) {
    let server = web::serve(move |request: ReceivedRequest| {
        let page = page.clone();
        async move {
            if request.rpc_method() == "tools/list" {
                return web::reply_result(&request, &page(request.body["params"]["cursor"].as_str()));
            }
            web::reply_with_sessions(&request)
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    (server, harness)
}

fn tools_page(names: &[&str], next: Value) -> Value {
    let tool = |name: &&str| json!({"name": name, "inputSchema": {"type": "object"}, "x": 1});
    let tools: Vec<Value> = names.iter().map(tool).collect();
    let mut page = json!({"tools": tools});
    if next != json!("none") {
        page["nextCursor"] = next;
    }
    page
}

async fn tool_names(harness: &Harness) -> String {
    let inventory = harness.backend.fetch_inventory(&context()).await.unwrap();
    let names: Vec<&str> = inventory.tools.iter().map(|tool| tool.name.as_str()).collect();
    names.join(" ")
}

#[tokio::test]
async fn all_pages_are_taken_in_order() {
    let (_server, harness) = paged_server(|cursor| match cursor {
        None => tools_page(&["a", "b"], json!("1")),
        Some("1") => tools_page(&["c"], json!("2")),
        Some(_) => tools_page(&["d"], Value::Null),
    })
    .await;
    assert_eq!(tool_names(&harness).await, "a b c d");
}

#[tokio::test]
async fn an_empty_cursor_is_a_cursor_unless_it_leads_back() {
    let (_server, harness) = paged_server(|cursor| match cursor {
        None => tools_page(&["a"], json!("")),
        Some(_) => tools_page(&["b"], json!("none")),
    })
    .await;
    assert_eq!(tool_names(&harness).await, "a b");
    let (server, harness) = paged_server(|cursor| match cursor {
        None | Some("") => tools_page(&["a"], json!("1")),
        Some(_) => tools_page(&["b"], json!("")),
    })
    .await;
    assert_eq!(tool_names(&harness).await, "a b");
    assert_eq!(server.with_method("tools/list").len(), 3);
}

#[tokio::test]
async fn a_circle_of_pages_ends() {
    let (server, harness) = paged_server(|cursor| match cursor {
        None => tools_page(&["a"], json!("1")),
        Some("1") => tools_page(&["b"], json!("2")),
        Some(_) => tools_page(&["c"], json!("1")),
    })
    .await;
    assert_eq!(tool_names(&harness).await, "a b c");
    assert_eq!(server.with_method("tools/list").len(), 3);
}

#[tokio::test]
async fn an_endless_list_ends() {
    let (server, harness) = paged_server(|cursor| {
        let next = cursor.map_or(1, |cursor| cursor.parse::<u32>().unwrap() + 1);
        tools_page(&["a"], json!(next.to_string()))
    })
    .await;
    assert_eq!(harness.backend.fetch_inventory(&context()).await.unwrap().tools.len(), 1000);
    assert_eq!(server.with_method("tools/list").len(), 1000);
}

#[tokio::test]
async fn items_that_cannot_be_read_are_left_out() {
    let (_server, harness) = paged_server(|_| {
        json!({"tools": [1, {"name": "a", "inputSchema": {}}, {"nom": "b", "inputSchema": {}}, null,
            {"name": "c", "inputSchema": {"type": "object"}}, {"name": "d"}, {"name": "e", "inputSchema": []},
            {"name": "f", "inputSchema": null}, {"name": "", "inputSchema": {}}, {"name": 7, "inputSchema": {}}]})
    })
    .await;
    assert_eq!(tool_names(&harness).await, "a c");
}

#[tokio::test]
async fn a_flood_is_taken() {
    let (_server, harness) = paged_server(|_| {
        let names: Vec<String> = (0..10_000).map(|n| format!("tool-{n}")).collect();
        tools_page(&names.iter().map(String::as_str).collect::<Vec<_>>(), json!("none"))
    })
    .await;
    let inventory = harness.backend.fetch_inventory(&context()).await.unwrap();
    assert_eq!(inventory.tools.len(), 10_000);
    assert_eq!(inventory.tools[9_999].name.as_str(), "tool-9999");
}

#[tokio::test]
async fn only_what_is_declared_is_asked_for_and_a_missing_list_is_empty() {
    let opening = |request: &ReceivedRequest| -> HttpReply {
        web::reply_result(
            request,
            &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "resources": {}}}),
        )
    };
    let server = web::serve(move |request| async move {
        match request.rpc_method() {
            "initialize" => opening(&request),
            "resources/list" => {
                web::reply_result(&request, &json!({"resources": [{"uri": "file:///a", "name": "a"}]}))
            }
            "resources/templates/list" => {
                web::reply_error(200, &request.body["id"], -32601, "Method not found")
            }
            _ => web::reply_with_sessions(&request),
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    let inventory = harness.backend.fetch_inventory(&context()).await.unwrap();
    assert_eq!((inventory.tools.len(), inventory.resources.len(), inventory.templates.len()), (1, 1, 0));
    assert!(server.with_method("prompts/list").is_empty());
}

/// A server that offers the lists of `capabilities`. `other` answers every list except the tools; it receives
/// the request and the number of earlier requests.
async fn server_with_lists(
    capabilities: Value,
    other: impl Fn(&ReceivedRequest, usize) -> HttpReply + Send + Sync + Clone + 'static,
) -> (web::ScriptedServer, Harness) {
    let asked = Arc::new(AtomicUsize::new(0));
    let server = web::serve(move |request: ReceivedRequest| {
        let (capabilities, other, asked) = (capabilities.clone(), other.clone(), asked.clone());
        async move {
            match request.rpc_method() {
                "initialize" => web::reply_result(
                    &request,
                    &json!({"protocolVersion": "2025-11-25", "capabilities": capabilities}),
                ),
                "prompts/list" => other(&request, asked.fetch_add(1, Relaxed)),
                "resources/list" | "resources/templates/list" => other(&request, 0),
                _ => web::reply_with_sessions(&request),
            }
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    (server, harness)
}

#[tokio::test]
async fn tools_do_not_depend_on_the_other_lists() {
    let all = json!({"tools": {}, "resources": {}, "prompts": {}});
    let answers: [fn(&ReceivedRequest) -> HttpReply; 5] = [
        |request| {
            web::reply_result(
                request,
                &json!({"resources": null, "resourceTemplates": null, "prompts": null}),
            )
        },
        |request| {
            web::reply_result(request, &json!({"resources": {}, "resourceTemplates": {}, "prompts": {}}))
        },
        |request| web::reply_result(request, &json!({})),
        |request| web::reply_error(200, &request.body["id"], -32603, "Internal error"),
        |_| web::reply_empty(500),
    ];
    for answer in answers {
        let (_server, harness) = server_with_lists(all.clone(), move |request, _| answer(request)).await;
        let inventory = harness.backend.fetch_inventory(&context()).await.unwrap();
        assert_eq!((inventory.tools.len(), inventory.resources.len(), inventory.prompts.len()), (1, 0, 0));
    }
}

/// The status of another list does not matter, with and without sessions.
#[tokio::test]
async fn tools_do_not_depend_on_the_status_of_the_other_lists() {
    let all = json!({"tools": {}, "resources": {}, "prompts": {}});
    for status in
        [400, 401, 402, 403, 404, 405, 408, 409, 410, 418, 421, 422, 429, 451, 500, 501, 502, 503, 504]
    {
        for has_sessions in [true, false] {
            let declared = all.clone();
            let server = web::serve(move |request: ReceivedRequest| {
                let declared = declared.clone();
                async move {
                    match request.rpc_method() {
                        "initialize" if has_sessions => {
                            let result = json!({"protocolVersion": "2025-11-25", "capabilities": declared});
                            let mut reply = web::reply_result(&request, &result);
                            reply.headers_mut().insert("mcp-session-id", "s".parse().unwrap());
                            reply
                        }
                        "server/discover" if !has_sessions => web::reply_result(
                            &request,
                            &json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": declared}),
                        ),
                        "prompts/list" | "resources/list" | "resources/templates/list" => {
                            let mut reply = web::reply_bytes(status, "text/plain", "no");
                            if status == 429 {
                                reply.headers_mut().insert("retry-after", "60".parse().unwrap());
                            }
                            reply
                        }
                        _ if has_sessions => web::reply_with_sessions(&request),
                        _ => web::reply_stateless(&request),
                    }
                }
            })
            .await;
            let harness = Harness::start_http(&server.url());
            assert_eq!(tool_names(&harness).await, "echo", "{status} {has_sessions}");
            harness.call(&context(), "echo", "{}").await.unwrap();
            // The connection is the first one. Without sessions, each list may be followed by a check of the
            // version.
            let (begun, asked) = if has_sessions { ("initialize", 1) } else { ("server/discover", 4) };
            assert!(server.with_method(begun).len() <= asked, "{status} {has_sessions}");
        }
    }
}

#[tokio::test]
async fn tools_do_not_wait_for_another_list_for_ever() {
    let server = web::serve(|request: ReceivedRequest| async move {
        match request.rpc_method() {
            "initialize" => web::reply_result(
                &request,
                &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "prompts": {}}}),
            ),
            "prompts/list" => std::future::pending().await,
            _ => web::reply_with_sessions(&request),
        }
    })
    .await;
    let timeouts = Timeouts { call: Duration::from_millis(300), ..TIMEOUTS };
    let harness = Harness::start(policy(Transport::StreamableHttp(http_policy(&server.url())), timeouts));
    assert_eq!(tool_names(&harness).await, "echo");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_any_more_stays_as_it_was() {
    let prompts = |request: &ReceivedRequest, before: usize| match before {
        0 => web::reply_result(request, &json!({"prompts": [{"name": "p"}]})),
        1 => web::reply_result(request, &json!({"prompts": "none"})),
        _ => web::reply_result(request, &json!({"prompts": null})),
    };
    let (_server, harness) = server_with_lists(json!({"tools": {}, "prompts": {}}), prompts).await;
    for names in [1, 1, 0] {
        assert_eq!(harness.backend.fetch_inventory(&context()).await.unwrap().prompts.len(), names);
    }
}

#[tokio::test]
async fn a_backend_of_which_nothing_can_be_read_is_reported() {
    let (_server, harness) =
        server_with_lists(json!({"prompts": {}}), |request, _| web::reply_result(request, &json!({}))).await;
    assert!(harness.backend.fetch_inventory(&context()).await.is_err());
}

#[tokio::test]
async fn a_page_that_fails_keeps_what_was_read_before() {
    // At first the list consists of the pages read so far, later of its last complete content.
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let server = web::serve(move |request: ReceivedRequest| {
        let failing = Arc::clone(&failing);
        async move {
            match (request.rpc_method(), request.body["params"]["cursor"].as_str()) {
                ("tools/list", None) => web::reply_result(&request, &tools_page(&["a", "b"], json!("2"))),
                ("tools/list", _) if failing.load(Relaxed) => {
                    web::reply_error(200, &request.body["id"], -32603, "no second page")
                }
                ("tools/list", _) => web::reply_result(&request, &tools_page(&["c"], Value::Null)),
                _ => web::reply_with_sessions(&request),
            }
        }
    })
    .await;
    let harness = Harness::start_http(&server.url());
    for (fails_now, expected) in [(true, "a b"), (false, "a b c"), (true, "a b c")] {
        fails.store(fails_now, Relaxed);
        assert_eq!(tool_names(&harness).await, expected);
        let inventory = harness.backend.fetch_inventory(&context()).await.unwrap();
        let failing: Vec<_> = inventory.list_failures.iter().map(|list| (list.list, list.class)).collect();
        assert_eq!(failing, if fails_now { vec![("tools", "protocol")] } else { vec![] });
    }
}

#[tokio::test]
async fn what_was_mended_or_left_out_is_told() {
    let odd = json!({"tools": [
        {"name": "a", "inputSchema": {}, "title": null},
        {"name": "b", "inputSchema": {"type": "string"}},
        {"name": "c", "inputSchema": {"type": "object"}},
    ]});
    let (_server, harness) = paged_server(move |_| odd.clone()).await;
    assert_eq!(tool_names(&harness).await, "a c");
    let remarks = harness.backend.fetch_inventory(&context()).await.unwrap().malformed_items;
    let told: Vec<_> = remarks.iter().map(|one| (&*one.item, one.is_omitted, &*one.text)).collect();
    assert_eq!(
        told,
        [("a", false, "`inputSchema` got `type: object`"), ("b", true, "`inputSchema.type` is not `object`"),]
    );
}
