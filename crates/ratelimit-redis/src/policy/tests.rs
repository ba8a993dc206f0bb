use super::*;

fn url(text: &str) -> ServerUrl {
    ServerUrl::parse(text).unwrap()
}

fn single(text: &str) -> RedisPolicy {
    RedisPolicy::new(StoreTarget::Single { url: url(text) }, "ns", "srv").unwrap()
}

#[test]
fn urls_are_of_a_known_kind() {
    for good in ["redis://h", "rediss://u:p@h:6380/3", "unix:///run/redis.sock", "redis+unix:///s?db=2"] {
        ServerUrl::parse(good).unwrap();
    }
    for bad in ["", "h:6379", "http://h", "redis://", "redis://h/x", "redis://0.0.0.0"] {
        assert_eq!(ServerUrl::parse(bad).unwrap_err(), PolicyError::Url, "{bad}");
    }
    assert_eq!(ServerUrl::parse("rediss://h/#insecure").unwrap_err(), PolicyError::Insecure);
    assert_eq!(ServerUrl::parse("redis://h/-1").unwrap_err(), PolicyError::Database);
}

#[test]
fn targets_are_consistent() {
    let cluster = |urls: &[&str]| {
        let urls = urls.iter().map(|text| url(text)).collect();
        RedisPolicy::new(StoreTarget::Cluster { urls }, "ns", "srv").map(drop)
    };
    assert_eq!(cluster(&["redis://a", "redis://b"]), Ok(()));
    assert_eq!(cluster(&[]), Err(PolicyError::NoUrls));
    assert_eq!(cluster(&["unix:///s"]), Err(PolicyError::Socket));
    assert_eq!(cluster(&["redis://a", "rediss://b"]), Err(PolicyError::MixedTls));
    assert_eq!(cluster(&["redis://:x@a", "redis://:y@b"]), Err(PolicyError::MixedCredentials));
    assert_eq!(cluster(&["redis://a/1", "redis://b/1"]), Err(PolicyError::ClusterDatabase));
    let target = StoreTarget::Sentinel { urls: vec![url("redis://a")], master: String::new() };
    assert_eq!(RedisPolicy::new(target, "ns", "srv").map(drop), Err(PolicyError::NoMaster));
    let target = StoreTarget::Cluster { urls: vec![url("redis://a")] };
    let policy = RedisPolicy::new(target, "ns", "srv").unwrap();
    assert_eq!(policy.with_db(1).map(drop), Err(PolicyError::ClusterDatabase));
}

#[test]
fn parts_of_keys_leave_the_hash_tag_alone() {
    let named = |namespace, server| {
        RedisPolicy::new(StoreTarget::Single { url: url("redis://h") }, namespace, server).map(drop)
    };
    assert_eq!(named("a", "b:c"), Ok(()));
    assert_eq!(named("a:b", "c"), Err(PolicyError::Colon));
    for bad in ["", "a{b", "a}b", "a b", "a\nb", "a\0b"] {
        assert_eq!(named("ns", bad), Err(PolicyError::KeyPart("the gateway's `name`")), "{bad:?}");
        assert_eq!(named(bad, "srv"), Err(PolicyError::KeyPart("the namespace")), "{bad:?}");
        let prefixed = single("redis://h").with_key_prefix(bad).map(drop);
        assert_eq!(prefixed, Err(PolicyError::KeyPart("the key prefix")), "{bad:?}");
    }
    assert_eq!(single("redis://h").full_key_prefix(), "thv:rl:{ns:srv}:");
    assert_eq!(single("redis://h").with_key_prefix("x:").unwrap().full_key_prefix(), "x:{ns:srv}:");
}

#[test]
fn durations_have_bounds() {
    for bad in [Duration::ZERO, Duration::from_secs(11)] {
        assert_eq!(
            single("redis://h").with_deadline(bad).map(drop),
            Err(PolicyError::Duration(DEADLINE_MAX))
        );
    }
    assert!(single("redis://h").with_heartbeat(Duration::ZERO).is_err());
    assert_eq!(single("redis://h").deadline(), Duration::from_millis(50));
    assert_eq!(single("redis://h").heartbeat(), Duration::from_secs(1));
}

#[test]
fn tls_needs_pem_and_a_url_that_uses_it() {
    assert_eq!(Tls::new(Some(b"no certificate"), None).map(drop), Err(PolicyError::Pem));
    assert_eq!(Tls::new(None, Some((b"no", b"key"))).map(drop), Err(PolicyError::Pem));
    let tls = Tls::new(None, None).unwrap();
    assert_eq!(single("redis://h").with_tls(tls.clone()).map(drop), Err(PolicyError::UnusedTls));
    single("rediss://h").with_tls(tls).unwrap();
}

#[test]
fn settings_come_before_what_urls_say() {
    let policy = single("redis://ann:one@h/4");
    let own = |policy: &RedisPolicy| {
        let settings = policy.servers()[0].redis_settings().clone();
        let text = |text: Option<&str>| text.map(str::to_owned);
        (text(settings.username()), text(settings.password()), settings.db())
    };
    let words = |user: &str, password: &str, db| (Some(user.to_owned()), Some(password.to_owned()), db);
    assert_eq!(own(&policy), words("ann", "one", 4));
    let policy = policy.with_credentials(Some("ben".to_owned()), Some(Password::new("two".to_owned())));
    assert_eq!(own(&policy.with_db(5).unwrap()), words("ben", "two", 5));
}
