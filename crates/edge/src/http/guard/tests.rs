use http::Request;

use super::*;

fn guard(loopback: bool, hosts: &[&str], origins: &[&str]) -> HostGuard {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    HostGuard { is_loopback: loopback, hosts: own(hosts), origins: own(origins) }
}

fn check(guard: &HostGuard, headers: &[(&str, &str)]) -> Result<(), Refusal> {
    let mut request = Request::builder().uri("/mcp");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    guard.check(&request.body(()).unwrap().into_parts().0)
}

#[test]
fn a_loopback_listener_answers_to_loopback_names_only() {
    let guard = guard(true, &["gateway.internal"], &[]);
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1:4483", "127.1.2.3", "[::1]:9", "gateway.internal:1"]
    {
        assert_eq!(check(&guard, &[("host", host)]), Ok(()), "{host}");
    }
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", "localhost:evil", ""]
    {
        assert_eq!(check(&guard, &[("host", host)]), Err(Refusal::InvalidHost), "{host}");
    }
    assert_eq!(check(&guard, &[]), Err(Refusal::InvalidHost));
    let twice = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(check(&guard, &twice), Err(Refusal::InvalidHost));
}

#[test]
fn a_host_in_the_target_and_one_in_the_header_are_the_same() {
    let named = |target: &str, host: &'static str| {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        request_host(&headers, &target.parse().unwrap()).map(str::to_owned)
    };
    assert_eq!(named("/mcp", "a.example").as_deref(), Some("a.example"));
    assert_eq!(named("http://a.example/mcp", "A.example").as_deref(), Some("A.example"));
    assert_eq!(named("http://evil.example/mcp", "localhost"), None);
}

#[test]
fn origins_are_loopback_or_allowed() {
    let local = guard(true, &[], &["https://app.example"]);
    let with = |origin| check(&local, &[("host", "localhost"), ("origin", origin)]);
    for origin in ["http://localhost:6274", "https://127.0.0.1", "http://[::1]:1", "https://APP.example"] {
        assert_eq!(with(origin), Ok(()), "{origin}");
    }
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file://localhost"] {
        assert_eq!(with(origin), Err(Refusal::InvalidOrigin), "{origin}");
    }
    let open = guard(false, &[], &[]);
    assert_eq!(check(&open, &[("host", "any.example")]), Ok(()));
    let foreign = [("host", "any.example"), ("origin", "http://localhost")];
    assert_eq!(check(&open, &foreign), Err(Refusal::InvalidOrigin));
    assert_eq!(check(&guard(false, &[], &["*"]), &foreign), Ok(()));
}

#[test]
fn accept_is_read_with_ranges_and_refusals() {
    let read = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(value).unwrap());
        let accepts = parse_accept(&headers);
        (accepts.json, accepts.events)
    };
    assert_eq!(read("application/json, text/event-stream"), (true, true));
    assert_eq!(read("*/*"), (true, true));
    assert_eq!(read("Application/JSON;q=0.5"), (true, false));
    assert_eq!(read("text/event-stream, application/json;q=0"), (false, true));
    assert_eq!(read("text/html"), (false, false));
    let none = parse_accept(&HeaderMap::new());
    assert!(none.json && none.events);
}
