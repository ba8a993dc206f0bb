//! Transports towards clients: HTTP for both protocol eras on one listener, and stdio; sessions live here and
//! nowhere else.
//!
//! It turns bytes into calls on the [`vmcp_domain::Gateway`] seam and answers back into bytes. It knows no layer:
//! what is allowed, limited or merged is decided behind the seam.

pub mod policy;
