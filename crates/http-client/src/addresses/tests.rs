use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const PRIVATE: &str = "
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7
    203.0.113.7 224.0.0.1 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:169.254.169.254 64:ff9b::10.0.0.1 64:ff9b:1::1
    100::1 2001::1 2001:1ff::1 2001:db8::1 2002:7f00:1::1 2002:a00:1:: 3fff:fff::1 5f00::1 fc00::1 fd12::1
    fe80::1 fec0::1 ff02::1 4000::1";

const PUBLIC: &str = "
    1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.169.0.1 198.17.0.1
    198.20.0.1 203.0.112.1 223.255.255.255
    ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:200::1 2001:4860:4860::8888 2002:808:808::1 2606:4700::1
    3fff:1000::1";

#[test]
fn special_addresses_are_not_public() {
    for address in PRIVATE.split_whitespace() {
        assert!(!is_public(address.parse().unwrap()), "{address}");
    }
    for address in PUBLIC.split_whitespace() {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn addresses_in_urls_are_looked_at_without_resolving() {
    for host in ["localhost", "A.LocalHost.", "127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254"] {
        assert!(AddressPolicy::Public.check_host(host).is_err(), "{host}");
        assert!(AddressPolicy::Anywhere.check_host(host).is_ok(), "{host}");
    }
    for host in ["8.8.8.8", "[2606:4700::1]", "idp.example.com"] {
        assert!(AddressPolicy::Public.check_host(host).is_ok(), "{host}");
    }
}

fn lookup_answering(answers: &'static [&'static [&'static str]]) -> (DnsLookup, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let lookup: DnsLookup = Arc::new(move |_name| {
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        let answer = answers[turn.min(answers.len() - 1)];
        let answer = answer.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        Box::pin(async move { Ok(answer) })
    });
    (lookup, count)
}

async fn resolve(address_policy: AddressPolicy, lookup: &DnsLookup) -> io::Result<Vec<SocketAddr>> {
    let mut resolver = GuardedResolver::with_lookup(address_policy, Arc::clone(lookup));
    Ok(resolver.call("idp.example.com".parse().unwrap()).await?.collect())
}

#[tokio::test]
async fn one_private_address_spoils_a_name() {
    let (lookup, _) = lookup_answering(&[&["8.8.8.8", "10.0.0.1"]]);
    let refused = resolve(AddressPolicy::Public, &lookup).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(refused.to_string(), "`idp.example.com` is on a private address, which is not allowed");
    assert_eq!(resolve(AddressPolicy::Anywhere, &lookup).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_what_was_looked_at_is_what_is_used() {
    let (lookup, count) = lookup_answering(&[&["8.8.8.8"], &["127.0.0.1"]]);
    let first = resolve(AddressPolicy::Public, &lookup).await.unwrap();
    assert_eq!(first, ["8.8.8.8:0".parse().unwrap()]);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // The name now resolves differently: the next connection is refused.
    assert!(resolve(AddressPolicy::Public, &lookup).await.is_err());
}

#[tokio::test]
async fn names_of_this_machine_are_refused() {
    let mut resolver = GuardedResolver::new(AddressPolicy::Public);
    assert!(resolver.call("localhost".parse().unwrap()).await.is_err());
    let mut resolver = GuardedResolver::new(AddressPolicy::Anywhere);
    assert!(resolver.call("localhost".parse().unwrap()).await.unwrap().all(|found| found.ip().is_loopback()));
}
