//! Keeps the gateway's own requests away from internal addresses: a URL in a document from the network must
//! not lead into the internal network (SSRF). Names are resolved here, and the connection goes to exactly the
//! checked addresses, so a name that resolves differently later gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Which addresses requests may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Only addresses of the public internet.
    Public,
    /// Also private, link-local and loopback addresses.
    Anywhere,
}

/// Why an address is refused.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The address is not one of the public internet.
    #[error("`{0}` is on a private address, which is not allowed")]
    Private(String),
}

impl AddressPolicy {
    /// Checks a host that is a literal address or a name of this machine, without resolving it. Other names
    /// pass: the resolver checks them.
    ///
    /// # Errors
    /// When the address is not allowed.
    pub fn check_host(self, host: &str) -> Result<(), AddressError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if self == Self::Public && is_localhost(bare) {
            return Err(AddressError::Private(host.to_owned()));
        }
        match bare.parse::<IpAddr>() {
            Ok(address) if !self.is_allowed(address) => Err(AddressError::Private(host.to_owned())),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn is_allowed(self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Public => is_public(address),
        }
    }
}

/// True for names that always mean this machine (RFC 6761, section 6.3).
#[must_use]
pub fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// True for addresses of the public internet. False for all special-purpose addresses (RFC 6890 and its
/// successors), also when they are embedded in IPv6.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a == 10
        || a == 127
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let [w, x] = high.to_be_bytes();
        let [y, z] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match [a, b, c, d, e, f] {
        // IPv4-mapped addresses, and the translation prefix of RFC 6052.
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => embedded(g, h),
        // 6to4 embeds its IPv4 address after the prefix.
        [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments (Teredo and others) and documentation.
        [0x2001, assigned, ..] if assigned < 0x0200 => false,
        [0x2001, 0x0db8, ..] => false,
        [0x3fff, documentation, ..] if documentation < 0x1000 => false,
        // The rest of global unicast.
        _ => (0x2000..0x4000).contains(&a),
    }
}

/// A host name that could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct LookupError(io::Error);

/// A DNS lookup.
type DnsLookup =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync>;

/// A resolver for an HTTP client that returns only allowed addresses.
#[derive(Clone)]
pub struct GuardedResolver {
    address_policy: AddressPolicy,
    lookup: DnsLookup,
}

impl GuardedResolver {
    /// Builds a resolver that uses the system's lookup.
    #[must_use]
    pub fn new(address_policy: AddressPolicy) -> Self {
        let lookup: DnsLookup =
            Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }));
        Self { address_policy, lookup }
    }

    #[cfg(test)]
    fn with_lookup(address_policy: AddressPolicy, lookup: DnsLookup) -> Self {
        Self { address_policy, lookup }
    }

    /// Resolves `name`. One disallowed address rejects the whole name, because such a name looks like an
    /// attack.
    async fn resolve(self, name: String) -> io::Result<Vec<SocketAddr>> {
        let found = (self.lookup)(name.clone()).await;
        let mut found = found.map_err(|error| io::Error::new(error.kind(), LookupError(error)))?;
        if found.iter().any(|address| !self.address_policy.is_allowed(address.ip())) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, AddressError::Private(name)));
        }
        found.truncate(ADDRESSES_MAX);
        Ok(found)
    }
}

impl fmt::Debug for GuardedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuardedResolver").field(&self.address_policy).finish()
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move { Ok(resolver.resolve(name.as_str().to_owned()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests;
