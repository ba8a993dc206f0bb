//! The client address of a request: the socket's address, or one from `X-Forwarded-For`. Any client can write
//! that header, so it counts only if the socket's address is a trusted proxy. It is read from the right, and
//! only as far as the addresses are trusted proxies.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address: the first address, from the right, that is not a trusted proxy.
pub(crate) fn client_address(socket: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    if !is_trusted(socket) {
        return socket;
    }
    let mut client = socket;
    // A header that is not text counts as one entry that is not an address.
    let lines = headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default());
    for part in lines.rev().flat_map(|line| line.rsplit(',')) {
        // An entry that is not an address ends the chain, because no trusted proxy confirms the entries to
        // its left.
        let Some(address) = parse_address(part.trim()) else { break };
        client = address;
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// Parses an address as proxies write it: alone, in brackets, or with a port.
fn parse_address(part: &str) -> Option<IpAddr> {
    let bracketed = || part.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || part.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let address = part.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(socket: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        client_address(socket.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["203.0.113.9", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["198.51.100.7, nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(from("::1", &["::ffff:198.51.100.7"]), "198.51.100.7");
    }

    #[test]
    fn ports_and_brackets_are_read() {
        assert_eq!(from("10.0.0.1", &["198.51.100.7:5000"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["203.0.113.9:1, 198.51.100.7:2, 10.0.0.2:3"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["[2001:db8::7]:5000"]), "2001:db8::7");
        assert_eq!(from("10.0.0.1", &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(from("10.0.0.1", &["[::ffff:198.51.100.7]:5000"]), "198.51.100.7");
        for nonsense in
            ["198.51.100.7:", "198.51.100.7:65536", "[198.51.100.7]", "[2001:db8::7", "2001:db8::7]:1"]
        {
            assert_eq!(from("10.0.0.1", &[nonsense]), "10.0.0.1", "{nonsense}");
        }
    }

    #[test]
    fn nothing_left_of_a_line_without_text_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, "198.51.100.7".parse().unwrap());
        headers.append(FORWARDED_FOR, http::HeaderValue::from_bytes(b"\xff").unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(client_address("10.0.0.1".parse().unwrap(), &headers, &trusted).to_string(), "10.0.0.1");
    }
}
