//! Which connection of a backend serves a caller's requests, by the caller and the isolation mode.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use vmcp_domain::{CallContext, CallerScope, ClientKey, User, accounting_address};

use crate::policy::Isolation;

/// Identifies the connection of a caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConnectionKey {
    /// All callers with the same credential.
    Credential(CallerScope),
    /// One user.
    User(User),
    /// One client.
    Client(ClientKey),
}

impl ConnectionKey {
    /// The key that `isolation` gives this request; `None` for the connection that all callers share.
    pub(crate) fn for_request(isolation: Isolation, ctx: &CallContext) -> Option<Self> {
        let user = || ctx.caller.user().map(Self::User);
        let client = || ctx.client.client_key().map(Self::Client);
        match isolation {
            Isolation::Shared => None,
            Isolation::PerCaller | Isolation::Automatic { sessions_apart: true } => user().or_else(client),
            Isolation::Automatic { sessions_apart: false } => user(),
            Isolation::PerSession => client().or_else(user),
        }
    }

    /// The scope of everything that the backend sends on this connection.
    pub(crate) fn scope(&self) -> CallerScope {
        let digest = match self {
            Self::Credential(scope) => return *scope,
            Self::User(user) => Sha256::new()
                .chain_update("user\0")
                .chain_update(user.issuer.len().to_le_bytes())
                .chain_update(&user.issuer)
                .chain_update(&user.subject),
            Self::Client(key) => {
                Sha256::new().chain_update("client\0").chain_update(key.number().to_le_bytes())
            }
        };
        CallerScope::new(digest.finalize().into())
    }

    /// True once the client has ended and can make no further request.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Client(key) if key.has_ended())
    }
}

/// The party that a connection is counted against, so that one caller does not use up all connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    User(User),
    /// A caller without an identity, by its address; `None` over standard streams.
    Address(Option<IpAddr>),
}

impl Owner {
    pub(crate) fn from_context(ctx: &CallContext) -> Self {
        match ctx.caller.user() {
            Some(user) => Self::User(user),
            None => Self::Address(ctx.peer_address.map(accounting_address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vmcp_domain::{CallOrigin, Caller, ClientHandle, Identity, SilentClient};
    use vmcp_json::Members;

    use super::*;

    fn context(user: Option<&str>, client: Option<&ClientHandle>) -> CallContext {
        let identity = |subject: &str| {
            let (issuer, subject) = ("i".to_owned(), subject.to_owned());
            Caller::Known(Arc::new(Identity { issuer, subject, claims: Members::new() }))
        };
        let mut ctx = CallContext::bare(user.map_or(Caller::Anonymous, identity), CallOrigin::Client);
        if let Some(life) = client {
            ctx.client = Arc::new(SilentClient::for_client(life.key()));
        }
        ctx
    }

    /// Tests the table of docs/isolation.md.
    #[test]
    fn who_shares_a_connection_with_whom() {
        const CALLER: &str = "caller";
        const SESSION: &str = "session";
        const SHARED: &str = "shared";
        let life = ClientHandle::default();
        let network = Isolation::Automatic { sessions_apart: true };
        let loopback = Isolation::Automatic { sessions_apart: false };
        for (isolation, both, user_only, session_only) in [
            (Isolation::Shared, SHARED, SHARED, SHARED),
            (Isolation::PerCaller, CALLER, CALLER, SESSION),
            (Isolation::PerSession, SESSION, CALLER, SESSION),
            (network, CALLER, CALLER, SESSION),
            (loopback, CALLER, CALLER, SHARED),
        ] {
            let found = |user, client| match ConnectionKey::for_request(isolation, &context(user, client)) {
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
        let key =
            |user| ConnectionKey::for_request(Isolation::PerCaller, &context(Some(user), None)).unwrap();
        assert_eq!(key("ann"), key("ann"));
        assert_ne!(key("ann"), key("bob"));
        assert_eq!(key("ann").scope(), key("ann").scope());
        assert_ne!(key("ann").scope(), key("bob").scope());
        let lives = [ClientHandle::default(), ClientHandle::default()];
        let keys = [0, 1].map(|index: usize| ConnectionKey::Client(lives[index].key()));
        assert_ne!(keys[0], keys[1]);
        assert_ne!(keys[0].scope(), keys[1].scope());
    }
}
