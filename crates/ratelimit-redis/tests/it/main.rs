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
mod former;
mod leases;
mod quotas;
mod replicas;
mod reservations;
mod secrets;
mod sentinels;
mod server;
mod slots;
mod tls;
mod together;

/// Makes a test of each function, on a Redis and on a Valkey. With `slow`, only `./test --group fleets` runs
/// them.
macro_rules! on_both {
    (slow: $($name:ident),+ $(,)?) => {
        crate::on_both!(@each [ #[ignore = "slow: ./test --group fleets"] ] $($name)+);
    };
    (@each $slow:tt $($name:ident)+) => {
        mod on_redis {
            $(crate::on_both!(@test $slow $name Redis);)+
        }
        mod on_valkey {
            $(crate::on_both!(@test $slow $name Valkey);)+
        }
    };
    (@test [ $($slow:tt)* ] $name:ident $kind:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($slow)*
        async fn $name() {
            if crate::server::is_installed(crate::server::ServerKind::$kind) {
                super::$name(crate::server::ServerKind::$kind).await;
            }
        }
    };
    ($($name:ident),+ $(,)?) => {
        crate::on_both!(@each [] $($name)+);
    };
}
pub(crate) use on_both;
