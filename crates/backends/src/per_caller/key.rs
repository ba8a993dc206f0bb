//! Which connection of a backend a caller's requests take, by who asks and how the backend keeps callers apart.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use vmcp_domain::{CallContext, Caller, CallerScope, ClientKey, Identity, counted_address};

use crate::policy::Isolation;

/// Whose connection it is.
#[derive(Clone, Debug)]
pub(crate) enum ConnectionKey {
    /// All callers to whom the same credential belongs.
    Credential(CallerScope),
    /// One user, by issuer and subject.
    User(Arc<Identity>),
    /// One client.
    Client(ClientKey),
}

impl ConnectionKey {
    /// The connection that `isolation` gives this request; `None` for the one that everybody shares.
    pub(crate) fn of(isolation: Isolation, ctx: &CallContext) -> Option<Self> {
        let user = || match &ctx.caller {
            Caller::Known(identity) => Some(Self::User(Arc::clone(identity))),
            Caller::Anonymous => None,
        };
        let client = || ctx.client.client_key().map(Self::Client);
        match isolation {
            Isolation::Shared => None,
            Isolation::PerCaller | Isolation::Automatic { sessions_apart: true } => user().or_else(client),
            Isolation::Automatic { sessions_apart: false } => user(),
            Isolation::PerSession => client().or_else(user),
        }
    }

    /// The same for whatever the backend says on this connection.
    pub(crate) fn scope(&self) -> CallerScope {
        let digest = match self {
            Self::Credential(scope) => return *scope,
            Self::User(identity) => Sha256::new()
                .chain_update("user\0")
                .chain_update(identity.issuer.len().to_le_bytes())
                .chain_update(&identity.issuer)
                .chain_update(&identity.subject),
            Self::Client(key) => {
                Sha256::new().chain_update("client\0").chain_update(key.number().to_le_bytes())
            }
        };
        CallerScope::new(digest.finalize().into())
    }

    /// True once its client can make no further request.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Client(key) if key.has_ended())
    }
}

impl PartialEq for ConnectionKey {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Credential(one), Self::Credential(other)) => one == other,
            (Self::User(one), Self::User(other)) => {
                Arc::ptr_eq(one, other) || (one.subject == other.subject && one.issuer == other.issuer)
            }
            (Self::Client(one), Self::Client(other)) => one == other,
            (Self::Credential(_) | Self::User(_) | Self::Client(_), _) => false,
        }
    }
}

impl Eq for ConnectionKey {}

impl Hash for ConnectionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Credential(scope) => scope.hash(state),
            Self::User(identity) => {
                identity.subject.hash(state);
                identity.issuer.hash(state);
            }
            Self::Client(key) => key.hash(state),
        }
    }
}

/// Who answers for a connection, so that one caller does not take the connections of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Issuer and subject.
    User(String, String),
    /// A caller without identity; over standard streams without an address too.
    Address(Option<IpAddr>),
}

impl Owner {
    pub(crate) fn of(ctx: &CallContext) -> Self {
        match &ctx.caller {
            Caller::Known(identity) => Self::User(identity.issuer.clone(), identity.subject.clone()),
            Caller::Anonymous => Self::Address(ctx.peer.map(counted_address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use vmcp_domain::{ClientLife, KeyedClient, Members, Origin};

    use super::*;

    fn context(user: Option<&str>, client: Option<&ClientLife>) -> CallContext {
        let identity = |subject: &str| {
            let (issuer, subject) = ("i".to_owned(), subject.to_owned());
            Caller::Known(Arc::new(Identity { issuer, subject, claims: Members::new() }))
        };
        let mut ctx = CallContext::bare(user.map_or(Caller::Anonymous, identity), Origin::Client);
        if let Some(life) = client {
            ctx.client = Arc::new(KeyedClient(life.key()));
        }
        ctx
    }

    /// The table of docs/isolation.md.
    #[test]
    fn who_shares_a_connection_with_whom() {
        const CALLER: &str = "caller";
        const SESSION: &str = "session";
        const SHARED: &str = "shared";
        let life = ClientLife::default();
        let network = Isolation::Automatic { sessions_apart: true };
        let loopback = Isolation::Automatic { sessions_apart: false };
        for (isolation, both, user_only, session_only) in [
            (Isolation::Shared, SHARED, SHARED, SHARED),
            (Isolation::PerCaller, CALLER, CALLER, SESSION),
            (Isolation::PerSession, SESSION, CALLER, SESSION),
            (network, CALLER, CALLER, SESSION),
            (loopback, CALLER, CALLER, SHARED),
        ] {
            let found = |user, client| match ConnectionKey::of(isolation, &context(user, client)) {
                Some(ConnectionKey::User(_)) => CALLER,
                Some(ConnectionKey::Client(_)) => SESSION,
                Some(ConnectionKey::Credential(_)) => "credential",
                None => SHARED,
            };
            assert_eq!(found(Some("ann"), Some(&life)), both, "{isolation:?}");
            assert_eq!(found(Some("ann"), None), user_only, "{isolation:?}");
            assert_eq!(found(None, Some(&life)), session_only, "{isolation:?}");
            assert_eq!(found(None, None), SHARED, "{isolation:?}");
        }
    }

    #[test]
    fn keys_of_different_callers_differ() {
        let key = |user| ConnectionKey::of(Isolation::PerCaller, &context(Some(user), None)).unwrap();
        assert_eq!(key("ann"), key("ann"));
        assert_ne!(key("ann"), key("bob"));
        assert_eq!(key("ann").scope(), key("ann").scope());
        assert_ne!(key("ann").scope(), key("bob").scope());
        let lives = [ClientLife::default(), ClientLife::default()];
        let keys = [0, 1].map(|index: usize| ConnectionKey::Client(lives[index].key()));
        assert_ne!(keys[0], keys[1]);
        assert_ne!(keys[0].scope(), keys[1].scope());
    }
}
