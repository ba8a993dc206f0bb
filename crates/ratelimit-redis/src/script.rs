//! The calls of the server's scripts, as bytes: the arguments of a decision, and its reply. The arithmetic is
//! in the scripts and is the same as that of [`vmcp_ratelimit::Rate`]. The module is public for benches and
//! for tests that connect to a server themselves.

pub(crate) mod reply;
mod slots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Cmd;
use smallvec::SmallVec;
use vmcp_ratelimit::{
    Adjustment, AdmitRequest, BLOCK_COUNT_MAX, BLOCK_DURATION_MAX, COST_OF_ANY_CALL, LegacyKeys,
    RemoteBucket, TakeRequest, policy::Mode,
};
use vmcp_timing::Micros;

pub use crate::script::reply::{AdmitGrant, read_take_grant};
pub use slots::{read_acquire, read_counts};

/// The version in the keys of buckets: how they are named and what they store. A release that changes either
/// changes it.
const BUCKET_KEY_VERSION: &str = "3:";
/// The same for all other keys, and for buckets of layout 2.
const OTHER_KEY_VERSION: &str = "2:";
/// How long the age of the present keys is remembered after the last replica has ended, in milliseconds.
const KEY_AGE_RETENTION_MS: u64 = 24 * 60 * 60 * 1000;

/// The most calls that one decision can grant.
pub const WANT_MAX: u16 = 256;

/// The longest step back of a server's clock that is compensated, in microseconds: a year.
const STEP_BACK_MAX: u64 = 365 * 24 * 3600 * 1_000_000;

/// A script that the server caches and that is then called by its digest.
#[derive(Clone, Debug)]
pub struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, digest: redis::Script::new(text).get_hash().to_owned() }
    }

    /// The text of the script.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The digest that `EVALSHA` takes.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// All scripts, and the prefix of the keys.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// Checks buckets and spends.
    pub admit: Script,
    /// Refunds and charges debts.
    pub adjust: Script,
    /// Takes tokens for a lease.
    pub take: Script,
    /// Takes slots for a call in flight.
    pub acquire: Script,
    /// Reports which calls are in flight and which have ended.
    pub report: Script,
    /// Counts the calls in flight.
    pub count: Script,
    /// Sends a replica's heartbeat.
    pub heartbeat: Script,
    /// Reads the server's version and settings.
    pub inspect: Script,
    /// Sets or lifts a block by an operator.
    pub block: Script,
    key_prefix: String,
    /// By how many microseconds the server's clock was set back recently.
    step_back: Arc<AtomicU64>,
}

/// One call of a script.
#[derive(Clone, Debug)]
pub struct ScriptCall<'a> {
    script: &'a Script,
    key_prefix: &'a str,
    /// The version that follows the prefix in `keys`.
    key_version: &'static str,
    /// The partition of the keys; all keys of one call have the same.
    partition: Option<&'a str>,
    keys: SmallVec<[&'a str; 4]>,
    /// The keys of other things than buckets, after those of buckets.
    other_keys: SmallVec<[&'a str; 2]>,
    legacy_keys: SmallVec<[&'a LegacyKeys; 0]>,
    args: SmallVec<[Vec<u8>; 2]>,
}

impl ScriptCall<'_> {
    /// The command that calls the script by its digest, in one round trip.
    #[must_use]
    pub fn by_digest(&self) -> Cmd {
        self.command("EVALSHA", self.script.digest())
    }

    /// The command that sends the text of the script: the server caches it from then on.
    #[must_use]
    pub fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text())
    }

    fn command(&self, name: &str, code: &str) -> Cmd {
        let others = || self.other_keys.iter().map(|key| (OTHER_KEY_VERSION, *key));
        let key_count = self.keys.len() + self.other_keys.len() + self.all_legacy_keys().count();
        let mut command = Cmd::with_capacity(3 + key_count + self.args.len(), code.len() + 512);
        command.arg(name).arg(code).arg(key_count);
        let mut whole = self.partition_key_prefix();
        let length = whole.len();
        let keys = self.keys.iter().map(|key| (self.key_version, *key));
        for (version, key) in keys.chain(others()).chain(self.all_legacy_keys()) {
            whole.truncate(length);
            whole.push_str(version);
            whole.push_str(key);
            command.arg(&whole);
        }
        for arg in &self.args {
            command.arg(arg.as_slice());
        }
        command
    }

    /// The full keys, without those of former versions.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let (head, version) = (self.partition_key_prefix(), self.key_version);
        let keys = self.keys.iter().map(|key| format!("{head}{version}{key}"));
        keys.chain(self.other_keys.iter().map(|key| format!("{head}{OTHER_KEY_VERSION}{key}"))).collect()
    }

    /// The former keys of all buckets, each with the version that precedes it.
    fn all_legacy_keys(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.legacy_keys.iter().flat_map(|legacy_keys| {
            let by_window_index = legacy_keys.by_window_index.iter().map(|key| (OTHER_KEY_VERSION, &**key));
            by_window_index.chain(legacy_keys.reference.as_deref().map(|key| ("", key)))
        })
    }

    /// The prefix of the keys. The part in braces determines the hash slot of a cluster.
    fn partition_key_prefix(&self) -> String {
        let mut head = String::with_capacity(self.key_prefix.len() + 128);
        match (self.key_prefix.rsplit_once('}'), self.partition) {
            (Some((before, after)), Some(partition)) => {
                for part in [before, "/", partition, "}", after] {
                    head.push_str(part);
                }
            }
            (None, _) | (_, None) => head.push_str(self.key_prefix),
        }
        head
    }

    /// The arguments that follow the keys.
    #[must_use]
    pub fn args(&self) -> &[Vec<u8>] {
        &self.args
    }
}

impl Scripts {
    /// The scripts on keys that begin with `key_head`, followed by a version.
    #[must_use]
    pub fn new(key_head: String) -> Self {
        Self {
            admit: Script::new(concat!(
                include_str!("lua/settle.lua"),
                include_str!("lua/decide.lua"),
                include_str!("lua/admit.lua")
            )),
            adjust: Script::new(concat!(include_str!("lua/settle.lua"), include_str!("lua/adjust.lua"))),
            take: Script::new(concat!(include_str!("lua/settle.lua"), include_str!("lua/take.lua"))),
            acquire: Script::new(concat!(
                include_str!("lua/settle.lua"),
                include_str!("lua/decide.lua"),
                include_str!("lua/slots.lua"),
                include_str!("lua/enter.lua")
            )),
            report: Script::new(concat!(include_str!("lua/slots.lua"), include_str!("lua/report.lua"))),
            count: Script::new(concat!(include_str!("lua/slots.lua"), include_str!("lua/count.lua"))),
            heartbeat: Script::new(include_str!("lua/beat.lua")),
            inspect: Script::new(include_str!("lua/inspect.lua")),
            block: Script::new(include_str!("lua/block.lua")),
            key_prefix: key_head,
            step_back: Arc::default(),
        }
    }

    /// Asks for up to `want` calls; zero only reads the levels of the buckets. `at` is a time of the caller's
    /// instead of the server's: for tests.
    #[must_use]
    pub fn admit<'a>(&'a self, request: &'a AdmitRequest, want: u16, at: Option<Micros>) -> ScriptCall<'a> {
        let mut spec = Vec::with_capacity(11 + 33 * request.buckets.len());
        spec.extend_from_slice(&want.min(WANT_MAX).to_le_bytes());
        spec.extend_from_slice(&self.time_argument(at));
        spec.extend_from_slice(&count_argument(request.buckets.len()));
        push_records(&mut spec, request);
        self.bucket_call(&self.admit, request.buckets.iter(), spec)
    }

    /// Charges more tokens to buckets of one partition, or refunds them.
    #[must_use]
    pub fn adjust<'a>(&'a self, changes: &'a [Adjustment], at: Option<Micros>) -> ScriptCall<'a> {
        let mut spec = Vec::with_capacity(9 + 53 * changes.len());
        spec.extend_from_slice(&self.time_argument(at));
        spec.extend_from_slice(&count_argument(changes.len()));
        for change in changes {
            push_adjustment(&mut spec, change);
        }
        self.bucket_call(&self.adjust, changes.iter().map(|change| &change.bucket), spec)
    }

    /// Takes tokens ahead of the calls that will spend them (a lease).
    #[must_use]
    pub fn take<'a>(
        &'a self,
        bucket: &'a RemoteBucket,
        request: TakeRequest,
        at: Option<Micros>,
    ) -> ScriptCall<'a> {
        let mut spec = Vec::with_capacity(64);
        // No bucket holds more than its capacity, which is exact in the script.
        let most = bucket.rate.burst();
        for tokens in [request.min_useful.min(most + 1), request.need.min(most), request.want.min(most)] {
            spec.extend_from_slice(&le_bytes_7(tokens));
        }
        spec.extend_from_slice(&request.share_divisor.max(1).to_le_bytes());
        spec.extend_from_slice(&self.time_argument(at));
        push_rate(&mut spec, bucket);
        self.bucket_call(&self.take, std::iter::once(bucket), spec)
    }

    pub(crate) fn heartbeat<'a>(&'a self, replica: &str, silence_ms: u128) -> ScriptCall<'a> {
        let args = [replica.to_owned(), silence_ms.to_string(), KEY_AGE_RETENTION_MS.to_string()];
        let keys = ["replicas", "since", "blocks"].into_iter().collect();
        ScriptCall {
            keys,
            args: args.map(String::into_bytes).into_iter().collect(),
            ..self.replica_call(&self.heartbeat)
        }
    }

    /// Blocks a name for the duration `duration`, or lifts the block where that is `None`.
    pub(crate) fn block<'a>(&'a self, name: &str, duration: Option<Duration>) -> ScriptCall<'a> {
        let millis = duration.map_or(0, |duration| duration.min(BLOCK_DURATION_MAX).as_millis().max(1));
        let args = [
            name.to_owned(),
            millis.to_string(),
            BLOCK_COUNT_MAX.to_string(),
            BLOCK_DURATION_MAX.as_millis().to_string(),
        ];
        ScriptCall {
            keys: std::iter::once("blocks").collect(),
            args: args.map(String::into_bytes).into_iter().collect(),
            ..self.other_call(&self.block)
        }
    }

    pub(crate) fn inspect(&self) -> ScriptCall<'_> {
        self.replica_call(&self.inspect)
    }

    fn replica_call<'a>(&'a self, script: &'a Script) -> ScriptCall<'a> {
        let keys = std::iter::once("replicas").collect();
        ScriptCall { keys, ..self.other_call(script) }
    }

    fn bucket_call<'a>(
        &'a self,
        script: &'a Script,
        buckets: impl Iterator<Item = &'a RemoteBucket>,
        spec: Vec<u8>,
    ) -> ScriptCall<'a> {
        let mut call = ScriptCall { key_version: BUCKET_KEY_VERSION, ..self.other_call(script) };
        let mut counts: Option<Vec<u8>> = None;
        for bucket in buckets {
            call.partition = bucket.partition.as_deref();
            call.keys.push(&bucket.key);
            if let Some(legacy_keys) = bucket.legacy_keys.as_deref() {
                let counts = counts.get_or_insert_with(|| vec![0; call.keys.len() - 1]);
                counts.push(legacy_key_flags(legacy_keys));
                call.legacy_keys.push(legacy_keys);
            } else if let Some(counts) = &mut counts {
                counts.push(0);
            }
        }
        call.args.push(spec);
        call.args.extend(counts);
        call
    }

    /// A call that names no bucket.
    fn other_call<'a>(&'a self, script: &'a Script) -> ScriptCall<'a> {
        ScriptCall {
            script,
            key_prefix: &self.key_prefix,
            key_version: OTHER_KEY_VERSION,
            partition: None,
            keys: SmallVec::new(),
            other_keys: SmallVec::new(),
            legacy_keys: SmallVec::new(),
            args: SmallVec::new(),
        }
    }

    /// The time of a call: the caller's own, or zero for the server's. After a step back of the server's
    /// clock it is the negative of that step instead of zero.
    fn time_argument(&self, at: Option<Micros>) -> [u8; 7] {
        let step = || self.step_back.load(Ordering::Relaxed).cast_signed().saturating_neg().cast_unsigned();
        le_bytes_7(at.map_or_else(step, |at| at.0))
    }

    /// Records by how many microseconds the server's clock was set back recently.
    pub(crate) fn set_step_back(&self, micros: u64) {
        self.step_back.store(micros.min(STEP_BACK_MAX), Ordering::Relaxed);
    }
}

/// The price in units. A price above the capacity becomes capacity plus one unit, which no bucket can pay and
/// which is exact in the script.
fn cost_units(bucket: &RemoteBucket) -> i64 {
    bucket.rate.units(u64::from(bucket.cost)).min(bucket.rate.capacity() + 1)
}

/// Seven little-endian bytes, which hold any number below 2^53, signed or not.
fn le_bytes_7(value: u64) -> [u8; 7] {
    let [a, b, c, d, e, f, g, _] = value.to_le_bytes();
    [a, b, c, d, e, f, g]
}

/// The number of buckets of a call: a plan has far fewer than the maximum.
fn count_argument(buckets: usize) -> [u8; 2] {
    u16::try_from(buckets).unwrap_or(u16::MAX).to_le_bytes()
}

/// The number and kind of a bucket's former keys; see `stored` in the scripts.
fn legacy_key_flags(legacy_keys: &LegacyKeys) -> u8 {
    let by_window_index = u8::try_from(legacy_keys.by_window_index.len().min(15)).unwrap_or(15);
    by_window_index
        | u8::from(legacy_keys.is_only_window) << 4
        | u8::from(legacy_keys.reference.is_some()) << 5
}

fn push_rate(spec: &mut Vec<u8>, bucket: &RemoteBucket) {
    let refill = u32::try_from(bucket.rate.refill()).unwrap_or(u32::MAX);
    spec.extend_from_slice(&refill.to_le_bytes());
    spec.extend_from_slice(&le_bytes_7(bucket.rate.unit()));
    spec.extend_from_slice(&le_bytes_7(bucket.rate.capacity().unsigned_abs()));
}

/// When the period of a calendar quota ends, which refills nothing within it; zero for other buckets.
fn push_end(spec: &mut Vec<u8>, bucket: &RemoteBucket) {
    spec.extend_from_slice(&le_bytes_7(bucket.period.map_or(0, |period| period.end.0)));
}

/// The records of the buckets of a decision.
fn push_records(spec: &mut Vec<u8>, request: &AdmitRequest) {
    for bucket in &request.buckets {
        push_rate(spec, bucket);
        spec.extend_from_slice(&le_bytes_7(cost_units(bucket).unsigned_abs()));
        spec.push(u8::from(bucket.mode == Mode::Enforce));
        push_end(spec, bucket);
    }
}

/// A change in two parts, neither larger than the capacity: together they reach from full to the deepest
/// debt.
fn push_adjustment(spec: &mut Vec<u8>, Adjustment { bucket, tokens, paid_at }: &Adjustment) {
    let capacity = bucket.rate.capacity();
    let size = bucket.rate.units(tokens.unsigned_abs());
    let units = if *tokens > 0 { size.saturating_neg() } else { size };
    let first = units.clamp(-capacity, capacity);
    let further = units.saturating_sub(first).clamp(-capacity, capacity);
    push_rate(spec, bucket);
    spec.extend_from_slice(&le_bytes_7(first.cast_unsigned()));
    spec.extend_from_slice(&le_bytes_7(further.cast_unsigned()));
    // The deepest debt is as large as the bucket.
    let paid = if bucket.cost == COST_OF_ANY_CALL { 2 * capacity } else { cost_units(bucket).min(capacity) };
    spec.extend_from_slice(&le_bytes_7(paid.unsigned_abs()));
    // Without a time the payment counts as made at time zero, so that nothing of it is refunded.
    spec.extend_from_slice(&le_bytes_7(paid_at.map_or(0, |at| at.0)));
    push_end(spec, bucket);
}

#[cfg(test)]
mod tests;
