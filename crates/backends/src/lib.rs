//! Transports towards backends: stdio children, streamable HTTP and HTTP+SSE, each on both protocol eras
//! where the era exists. Connections are made once, kept, and remade; many clients share them.
//!
//! What messages look like is `vmcp-wire`'s; which backend a request goes to is `vmcp-federation`'s.

pub mod policy;
