//! Inventories: all pages, and what a backend may get wrong about them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use serde_json::{Value, json};

use crate::web::{self, Hit, Reply};
use vmcp_backends::policy::{Timeouts, Transport};

use crate::{Rig, TIMEOUTS, context, http, policy};

/// A server whose list of tools is answered by `page`, given the cursor.
async fn listing(page: impl Fn(Option<&str>) -> Value + Send + Sync + Clone + 'static) -> (web::Web, Rig) {
    let server = web::serve(move |hit: Hit| {
        let page = page.clone();
        async move {
            if hit.method() == "tools/list" {
                return web::result(&hit, &page(hit.body["params"]["cursor"].as_str()));
            }
            web::session(&hit)
        }
    })
    .await;
    let rig = Rig::http(&server.url());
    (server, rig)
}

fn tools(names: &[&str], next: Value) -> Value {
    let tool = |name: &&str| json!({"name": name, "inputSchema": {"type": "object"}, "x": 1});
    let tools: Vec<Value> = names.iter().map(tool).collect();
    let mut page = json!({"tools": tools});
    if next != json!("none") {
        page["nextCursor"] = next;
    }
    page
}

async fn names(rig: &Rig) -> String {
    let inventory = rig.backend.inventory(&context()).await.unwrap();
    let names: Vec<&str> = inventory.tools.iter().map(|tool| tool.name.as_str()).collect();
    names.join(" ")
}

#[tokio::test]
async fn all_pages_are_taken_in_order() {
    let (_server, rig) = listing(|cursor| match cursor {
        None => tools(&["a", "b"], json!("1")),
        Some("1") => tools(&["c"], json!("2")),
        Some(_) => tools(&["d"], Value::Null),
    })
    .await;
    assert_eq!(names(&rig).await, "a b c d");
}

#[tokio::test]
async fn an_empty_cursor_is_a_cursor_unless_it_leads_back() {
    let (_server, rig) = listing(|cursor| match cursor {
        None => tools(&["a"], json!("")),
        Some(_) => tools(&["b"], json!("none")),
    })
    .await;
    assert_eq!(names(&rig).await, "a b");
    let (server, rig) = listing(|cursor| match cursor {
        None | Some("") => tools(&["a"], json!("1")),
        Some(_) => tools(&["b"], json!("")),
    })
    .await;
    assert_eq!(names(&rig).await, "a b");
    assert_eq!(server.with_method("tools/list").len(), 3);
}

#[tokio::test]
async fn a_circle_of_pages_ends() {
    let (server, rig) = listing(|cursor| match cursor {
        None => tools(&["a"], json!("1")),
        Some("1") => tools(&["b"], json!("2")),
        Some(_) => tools(&["c"], json!("1")),
    })
    .await;
    assert_eq!(names(&rig).await, "a b c");
    assert_eq!(server.with_method("tools/list").len(), 3);
}

#[tokio::test]
async fn an_endless_list_ends() {
    let (server, rig) = listing(|cursor| {
        let next = cursor.map_or(1, |cursor| cursor.parse::<u32>().unwrap() + 1);
        tools(&["a"], json!(next.to_string()))
    })
    .await;
    assert_eq!(rig.backend.inventory(&context()).await.unwrap().tools.len(), 1000);
    assert_eq!(server.with_method("tools/list").len(), 1000);
}

#[tokio::test]
async fn items_that_cannot_be_read_are_left_out() {
    let (_server, rig) = listing(|_| {
        json!({"tools": [1, {"name": "a", "inputSchema": {}}, {"nom": "b", "inputSchema": {}}, null,
            {"name": "c", "inputSchema": {"type": "object"}}, {"name": "d"}, {"name": "e", "inputSchema": []},
            {"name": "f", "inputSchema": null}, {"name": "", "inputSchema": {}}, {"name": 7, "inputSchema": {}}]})
    })
    .await;
    assert_eq!(names(&rig).await, "a c");
}

#[tokio::test]
async fn a_flood_is_taken() {
    let (_server, rig) = listing(|_| {
        let names: Vec<String> = (0..10_000).map(|n| format!("tool-{n}")).collect();
        tools(&names.iter().map(String::as_str).collect::<Vec<_>>(), json!("none"))
    })
    .await;
    let inventory = rig.backend.inventory(&context()).await.unwrap();
    assert_eq!(inventory.tools.len(), 10_000);
    assert_eq!(inventory.tools[9_999].name.as_str(), "tool-9999");
}

#[tokio::test]
async fn only_what_is_declared_is_asked_for_and_a_missing_list_is_empty() {
    let opening = |hit: &Hit| -> Reply {
        web::result(
            hit,
            &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "resources": {}}}),
        )
    };
    let server = web::serve(move |hit| async move {
        match hit.method() {
            "initialize" => opening(&hit),
            "resources/list" => web::result(&hit, &json!({"resources": [{"uri": "file:///a", "name": "a"}]})),
            "resources/templates/list" => web::error(200, &hit.body["id"], -32601, "Method not found"),
            _ => web::session(&hit),
        }
    })
    .await;
    let rig = Rig::http(&server.url());
    let inventory = rig.backend.inventory(&context()).await.unwrap();
    assert_eq!((inventory.tools.len(), inventory.resources.len(), inventory.templates.len()), (1, 1, 0));
    assert!(server.with_method("prompts/list").is_empty());
}

/// A server that offers the lists of `capabilities`; all but the tools are answered by `other`, given the method and
/// how often it was asked before.
async fn beside_tools(
    capabilities: Value,
    other: impl Fn(&Hit, usize) -> Reply + Send + Sync + Clone + 'static,
) -> (web::Web, Rig) {
    let asked = Arc::new(AtomicUsize::new(0));
    let server = web::serve(move |hit: Hit| {
        let (capabilities, other, asked) = (capabilities.clone(), other.clone(), asked.clone());
        async move {
            match hit.method() {
                "initialize" => {
                    web::result(&hit, &json!({"protocolVersion": "2025-11-25", "capabilities": capabilities}))
                }
                "prompts/list" => other(&hit, asked.fetch_add(1, Relaxed)),
                "resources/list" | "resources/templates/list" => other(&hit, 0),
                _ => web::session(&hit),
            }
        }
    })
    .await;
    let rig = Rig::http(&server.url());
    (server, rig)
}

#[tokio::test]
async fn tools_do_not_depend_on_the_other_lists() {
    let all = json!({"tools": {}, "resources": {}, "prompts": {}});
    let answers: [fn(&Hit) -> Reply; 5] = [
        |hit| web::result(hit, &json!({"resources": null, "resourceTemplates": null, "prompts": null})),
        |hit| web::result(hit, &json!({"resources": {}, "resourceTemplates": {}, "prompts": {}})),
        |hit| web::result(hit, &json!({})),
        |hit| web::error(200, &hit.body["id"], -32603, "Internal error"),
        |_| web::empty(500),
    ];
    for answer in answers {
        let (_server, rig) = beside_tools(all.clone(), move |hit, _| answer(hit)).await;
        let inventory = rig.backend.inventory(&context()).await.unwrap();
        assert_eq!((inventory.tools.len(), inventory.resources.len(), inventory.prompts.len()), (1, 0, 0));
    }
}

/// Whatever the status of another list, with and without sessions.
#[tokio::test]
async fn tools_do_not_depend_on_the_status_of_the_other_lists() {
    let all = json!({"tools": {}, "resources": {}, "prompts": {}});
    for status in
        [400, 401, 402, 403, 404, 405, 408, 409, 410, 418, 421, 422, 429, 451, 500, 501, 502, 503, 504]
    {
        for has_sessions in [true, false] {
            let declared = all.clone();
            let server = web::serve(move |hit: Hit| {
                let declared = declared.clone();
                async move {
                    match hit.method() {
                        "initialize" if has_sessions => {
                            let result = json!({"protocolVersion": "2025-11-25", "capabilities": declared});
                            let mut reply = web::result(&hit, &result);
                            reply.headers_mut().insert("mcp-session-id", "s".parse().unwrap());
                            reply
                        }
                        "server/discover" if !has_sessions => web::result(
                            &hit,
                            &json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": declared}),
                        ),
                        "prompts/list" | "resources/list" | "resources/templates/list" => {
                            let mut reply = web::bytes(status, "text/plain", "no");
                            if status == 429 {
                                reply.headers_mut().insert("retry-after", "60".parse().unwrap());
                            }
                            reply
                        }
                        _ if has_sessions => web::session(&hit),
                        _ => web::stateless(&hit),
                    }
                }
            })
            .await;
            let rig = Rig::http(&server.url());
            assert_eq!(names(&rig).await, "echo", "{status} {has_sessions}");
            rig.call(&context(), "echo", "{}").await.unwrap();
            // The connection is the first; without sessions each list may be followed by the question what is spoken.
            let (begun, asked) = if has_sessions { ("initialize", 1) } else { ("server/discover", 4) };
            assert!(server.with_method(begun).len() <= asked, "{status} {has_sessions}");
        }
    }
}

#[tokio::test]
async fn tools_do_not_wait_for_another_list_for_ever() {
    let server = web::serve(|hit: Hit| async move {
        match hit.method() {
            "initialize" => web::result(
                &hit,
                &json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "prompts": {}}}),
            ),
            "prompts/list" => std::future::pending().await,
            _ => web::session(&hit),
        }
    })
    .await;
    let timeouts = Timeouts { call: Duration::from_millis(300), ..TIMEOUTS };
    let rig = Rig::start(policy(Transport::StreamableHttp(http(&server.url())), timeouts));
    assert_eq!(names(&rig).await, "echo");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_any_more_stays_as_it_was() {
    let prompts = |hit: &Hit, before: usize| match before {
        0 => web::result(hit, &json!({"prompts": [{"name": "p"}]})),
        1 => web::result(hit, &json!({"prompts": "none"})),
        _ => web::result(hit, &json!({"prompts": null})),
    };
    let (_server, rig) = beside_tools(json!({"tools": {}, "prompts": {}}), prompts).await;
    for names in [1, 1, 0] {
        assert_eq!(rig.backend.inventory(&context()).await.unwrap().prompts.len(), names);
    }
}

#[tokio::test]
async fn a_backend_of_which_nothing_can_be_read_is_reported() {
    let (_server, rig) = beside_tools(json!({"prompts": {}}), |hit, _| web::result(hit, &json!({}))).await;
    assert!(rig.backend.inventory(&context()).await.is_err());
}

#[tokio::test]
async fn a_page_that_fails_keeps_what_was_read_before() {
    // The first time the pages read, later the whole list as it was.
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let server = web::serve(move |hit: Hit| {
        let failing = Arc::clone(&failing);
        async move {
            match (hit.method(), hit.body["params"]["cursor"].as_str()) {
                ("tools/list", None) => web::result(&hit, &tools(&["a", "b"], json!("2"))),
                ("tools/list", _) if failing.load(Relaxed) => {
                    web::error(200, &hit.body["id"], -32603, "no second page")
                }
                ("tools/list", _) => web::result(&hit, &tools(&["c"], Value::Null)),
                _ => web::session(&hit),
            }
        }
    })
    .await;
    let rig = Rig::http(&server.url());
    for (fails_now, expected) in [(true, "a b"), (false, "a b c"), (true, "a b c")] {
        fails.store(fails_now, Relaxed);
        assert_eq!(names(&rig).await, expected);
        let inventory = rig.backend.inventory(&context()).await.unwrap();
        let failing: Vec<_> = inventory.failing.iter().map(|list| (list.list, list.class)).collect();
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
    let (_server, rig) = listing(move |_| odd.clone()).await;
    assert_eq!(names(&rig).await, "a c");
    let remarks = rig.backend.inventory(&context()).await.unwrap().remarks;
    let told: Vec<_> = remarks.iter().map(|one| (&*one.item, one.is_left_out, &*one.text)).collect();
    assert_eq!(
        told,
        [("a", false, "`inputSchema` got `type: object`"), ("b", true, "`inputSchema.type` is not `object`"),]
    );
}
