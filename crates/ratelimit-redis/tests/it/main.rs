//! The store against real servers: Redis from the system's packages and Valkey from the cache of `./test`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own steps fail by panicking, those outside #[test] functions too"
)]

mod adjustments;
mod arithmetic;
mod clusters;
mod contention;
mod conversion;
mod decisions;
mod faults;
mod leases;
mod replicas;
mod reservations;
mod secrets;
mod sentinels;
mod server;
mod slots;
mod tls;
mod together;

/// Runs each test on a Redis and on a Valkey.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::server::Kind::Redis).await;
            })+
        }
        mod on_valkey {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::server::Kind::Valkey).await;
            })+
        }
    };
}
pub(crate) use on_both;
