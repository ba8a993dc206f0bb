use super::*;

fn openai() -> ServicePolicy {
    ServicePolicy::new("https://embeddings.example/v1", Provider::OpenAi { model: "small".to_owned() })
        .unwrap()
}

fn tei() -> ServicePolicy {
    ServicePolicy::new("http://tei:8080", Provider::Tei).unwrap()
}

fn headers(of: &[(&str, &str)]) -> Result<ServicePolicy, PolicyError> {
    openai().with_headers(of.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))))
}

#[test]
fn what_cannot_be_an_address_is_refused() {
    for (url, error) in [
        ("", PolicyError::Url),
        ("embeddings", PolicyError::Url),
        ("embeddings:8080", PolicyError::Url),
        ("/v1", PolicyError::Url),
        ("ftp://h/", PolicyError::Url),
        ("http://:80", PolicyError::Url),
        ("http://h:0", PolicyError::Url),
        ("http://h h", PolicyError::Url),
        ("http://user@h", PolicyError::UrlCredentials),
        ("http://user:hush@h", PolicyError::UrlCredentials),
        ("http://h/#x", PolicyError::UrlFragment),
        ("http://h/?x=1", PolicyError::UrlQuery),
    ] {
        assert_eq!(ServicePolicy::new(url, Provider::Tei).unwrap_err(), error, "{url}");
    }
}

#[test]
fn openai_needs_a_model() {
    for model in [String::new(), " ".to_owned(), "a\nb".to_owned(), "m".repeat(257)] {
        let error = ServicePolicy::new("http://h", Provider::OpenAi { model }).unwrap_err();
        assert_eq!(error, PolicyError::Model);
        assert!(error.to_string().starts_with("model: "));
    }
}

#[test]
fn times_have_bounds() {
    assert_eq!(tei().with_timeout(Duration::ZERO).unwrap_err(), PolicyError::Timeout);
    assert_eq!(tei().with_timeout(Duration::from_secs(601)).unwrap_err(), PolicyError::Timeout);
    assert_eq!(tei().with_query_timeout(Duration::ZERO).unwrap_err(), PolicyError::QueryTimeout);
    assert_eq!(tei().effective_query_timeout(), Duration::from_secs(2));
    let short = tei().with_timeout(Duration::from_secs(1)).unwrap();
    assert_eq!(
        short.effective_query_timeout(),
        Duration::from_secs(1),
        "a request's time-out counts for queries too"
    );
}

#[test]
fn headers_have_bounds() {
    assert!(headers(&[("x-tenant", "a"), ("User-Agent", &"v".repeat(8192))]).is_ok());
    assert_eq!(headers(&[("x tenant", "a")]).unwrap_err(), PolicyError::HeaderName);
    for value in ["", "a\tb", "a\nb", "a\u{85}b", &"v".repeat(8193)] {
        let error = headers(&[("x-a", value)]).unwrap_err();
        assert_eq!(error, PolicyError::HeaderValue(HeaderName::from_static("x-a")));
    }
    for own in ["Authorization", "content-type", "Host", "content-length", "transfer-encoding"] {
        let error = headers(&[(own, "a")]).unwrap_err();
        assert!(matches!(error, PolicyError::HeaderOwn(_)), "{own}");
    }
    let twice = headers(&[("X-A", "a"), ("x-a", "b")]).unwrap_err();
    assert_eq!(twice, PolicyError::HeaderTwice(HeaderName::from_static("x-a")));
    let many = |count: usize| {
        openai().with_headers((0..count).map(|number| (format!("x-{number}"), Secret::new("a"))))
    };
    assert!(many(32).is_ok());
    assert_eq!(many(33).unwrap_err(), PolicyError::Headers);
}

#[test]
fn what_tei_is_never_sent_is_refused() {
    let header = [("x-a".to_owned(), Secret::new("a"))];
    assert_eq!(tei().with_headers(header).unwrap_err(), PolicyError::HeadersUnused);
    assert!(tei().with_headers([]).is_ok());
    assert_eq!(tei().with_api_key(&Secret::new("k")).unwrap_err(), PolicyError::ApiKeyUnused);
}

#[test]
fn a_key_with_a_line_break_is_refused() {
    for key in ["", "sk\n", "sk key", "sk-ü"] {
        assert_eq!(openai().with_api_key(&Secret::new(key)).unwrap_err(), PolicyError::ApiKey);
    }
}

#[test]
fn secrets_are_not_printed() {
    let policy = headers(&[("x-a", "hush-header")]).unwrap().with_api_key(&Secret::new("hush-key")).unwrap();
    let printed = format!("{policy:?} {:#?} {:?}", policy.clone(), Secret::new("hush"));
    assert!(!printed.contains("hush"), "{printed}");
    assert!(printed.contains("https://embeddings.example/v1"), "{printed}");
}

#[test]
fn secrets_without_tls_are_worth_a_warning() {
    let shows = |url: &str| {
        let policy = ServicePolicy::new(url, Provider::OpenAi { model: "m".to_owned() }).unwrap();
        assert!(!policy.exposes_secrets(), "there is none yet");
        policy.with_api_key(&Secret::new("k")).unwrap().exposes_secrets()
    };
    assert!(shows("http://gateway.example"));
    assert!(!shows("https://gateway.example"));
    assert!(!shows("http://127.0.0.1:4000"));
}
