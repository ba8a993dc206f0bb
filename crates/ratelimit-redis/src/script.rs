//! The calls of the server's scripts, as bytes: what a decision asks, and what the answer says.
//! The arithmetic is the scripts' own and the same as [`vmcp_ratelimit::Rate`]'s; public for benches and for tests
//! that speak to a server themselves.

mod slots;

use redis::{Cmd, Value};
use smallvec::SmallVec;
use vmcp_ratelimit::{Ask, Micros, Order, RemoteBucket, RemoteVerdict, Taken, policy::Mode};

pub use slots::{read_counts, read_entered};

/// The most calls one decision can grant.
pub const WANT_MAX: u16 = 256;

/// A script the server keeps and is then called by its digest.
#[derive(Clone, Debug)]
pub struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, digest: redis::Script::new(text).get_hash().to_owned() }
    }

    /// The script.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// What `EVALSHA` calls it.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// All scripts, and what the keys begin with.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// Checks and spends.
    pub admit: Script,
    /// Refunds and debts.
    pub adjust: Script,
    /// Takes tokens ahead.
    pub take: Script,
    /// Takes a slot among the calls in flight.
    pub enter: Script,
    /// Which calls are in flight, and which have ended.
    pub report: Script,
    /// How many calls are in flight.
    pub count: Script,
    /// A replica's heartbeat.
    pub beat: Script,
    /// What the server says of itself.
    pub inspect: Script,
    key_head: String,
}

/// One call of a script.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    script: &'a Script,
    key_head: &'a str,
    /// Whose place the keys have; all of one call have the same.
    home: Option<&'a str>,
    keys: SmallVec<[&'a str; 4]>,
    args: SmallVec<[Vec<u8>; 2]>,
}

impl Call<'_> {
    /// The command that calls the script by its digest, in one round trip.
    #[must_use]
    pub fn by_digest(&self) -> Cmd {
        self.command("EVALSHA", self.script.digest())
    }

    /// The command that brings the script along: the server keeps it from then on.
    #[must_use]
    pub fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text())
    }

    fn command(&self, name: &str, code: &str) -> Cmd {
        let mut command = Cmd::with_capacity(3 + self.keys.len() + self.args.len(), code.len() + 512);
        command.arg(name).arg(code).arg(self.keys.len());
        let mut whole = self.head();
        let length = whole.len();
        for key in &self.keys {
            whole.truncate(length);
            whole.push_str(key);
            command.arg(&whole);
        }
        for arg in &self.args {
            command.arg(arg.as_slice());
        }
        command
    }

    /// The keys, whole.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let head = self.head();
        self.keys.iter().map(|key| format!("{head}{key}")).collect()
    }

    /// What the keys begin with. The part in braces says which place of a cluster they have.
    fn head(&self) -> String {
        let mut head = String::with_capacity(self.key_head.len() + 128);
        match (self.key_head.rsplit_once('}'), self.home) {
            (Some((before, after)), Some(home)) => {
                for part in [before, "/", home, "}", after] {
                    head.push_str(part);
                }
            }
            (None, _) | (_, None) => head.push_str(self.key_head),
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
    /// The scripts on keys that begin with `key_head`.
    #[must_use]
    pub fn new(key_head: String) -> Self {
        Self {
            admit: Script::new(concat!(include_str!("lua/settle.lua"), include_str!("lua/admit.lua"))),
            adjust: Script::new(concat!(include_str!("lua/settle.lua"), include_str!("lua/adjust.lua"))),
            take: Script::new(concat!(include_str!("lua/settle.lua"), include_str!("lua/take.lua"))),
            enter: Script::new(concat!(include_str!("lua/slots.lua"), include_str!("lua/enter.lua"))),
            report: Script::new(concat!(include_str!("lua/slots.lua"), include_str!("lua/report.lua"))),
            count: Script::new(concat!(include_str!("lua/slots.lua"), include_str!("lua/count.lua"))),
            beat: Script::new(include_str!("lua/beat.lua")),
            inspect: Script::new(include_str!("lua/inspect.lua")),
            key_head,
        }
    }

    /// Asks for up to `want` calls; for none, to see what the buckets hold. `at` is a time of the caller's own
    /// instead of the server's: for tests.
    #[must_use]
    pub fn admit<'a>(&'a self, ask: &'a Ask, want: u16, at: Option<Micros>) -> Call<'a> {
        let mut spec = Vec::with_capacity(9 + 26 * ask.buckets.len());
        spec.extend_from_slice(&want.min(WANT_MAX).to_le_bytes());
        spec.extend_from_slice(&moment(at));
        for bucket in &ask.buckets {
            push_rate(&mut spec, bucket);
            spec.extend_from_slice(&seven(cost(bucket).unsigned_abs()));
            spec.push(u8::from(bucket.mode == Mode::Enforce));
        }
        self.call(&self.admit, ask.buckets.iter(), spec)
    }

    /// Gives back the price of `counts` calls to each bucket, where it is still known.
    #[must_use]
    pub fn refund<'a>(&'a self, ask: &'a Ask, counts: &[u32], at: Option<Micros>) -> Call<'a> {
        let paid = || ask.buckets.iter().zip(counts).filter(|(_, count)| **count > 0);
        let mut spec = moment(at).to_vec();
        for (bucket, count) in paid() {
            let units = cost(bucket).saturating_mul(i64::from(*count));
            push_change(&mut spec, bucket, units, false);
        }
        self.call(&self.adjust, paid().map(|(bucket, _)| bucket), spec)
    }

    /// Takes `tokens` that were admitted elsewhere.
    #[must_use]
    pub fn debt<'a>(&'a self, bucket: &'a RemoteBucket, tokens: u64, at: Option<Micros>) -> Call<'a> {
        let mut spec = moment(at).to_vec();
        push_change(&mut spec, bucket, bucket.rate.units(tokens).saturating_neg(), true);
        self.call(&self.adjust, std::iter::once(bucket), spec)
    }

    /// Takes tokens ahead of the calls that will spend them.
    #[must_use]
    pub fn take<'a>(&'a self, bucket: &'a RemoteBucket, order: Order, at: Option<Micros>) -> Call<'a> {
        let mut spec = Vec::with_capacity(64);
        // No bucket holds more than its capacity, which is exact in the script.
        let most = bucket.rate.burst();
        for tokens in [order.least.min(most + 1), order.need.min(most), order.want.min(most)] {
            spec.extend_from_slice(&seven(tokens));
        }
        spec.extend_from_slice(&order.parts.max(1).to_le_bytes());
        spec.extend_from_slice(&moment(at));
        push_rate(&mut spec, bucket);
        self.call(&self.take, std::iter::once(bucket), spec)
    }

    pub(crate) fn beat<'a>(&'a self, replica: &str, silence_ms: u128) -> Call<'a> {
        let args = [replica.as_bytes().to_vec(), silence_ms.to_string().into_bytes()];
        Call { args: args.into_iter().collect(), ..self.on_replicas(&self.beat) }
    }

    pub(crate) fn inspect(&self) -> Call<'_> {
        self.on_replicas(&self.inspect)
    }

    fn on_replicas<'a>(&'a self, script: &'a Script) -> Call<'a> {
        let keys = std::iter::once("replicas").collect();
        Call { script, key_head: &self.key_head, home: None, keys, args: SmallVec::new() }
    }

    fn call<'a>(
        &'a self,
        script: &'a Script,
        buckets: impl Iterator<Item = &'a RemoteBucket>,
        spec: Vec<u8>,
    ) -> Call<'a> {
        let mut home = None;
        let note = |bucket: &'a RemoteBucket| {
            home = bucket.home.as_deref();
            &*bucket.key
        };
        let keys = buckets.map(note).collect();
        Call { script, key_head: &self.key_head, home, keys, args: std::iter::once(spec).collect() }
    }
}

/// The price in units. A price the bucket can never hold stays one, and small enough to be exact in the script.
fn cost(bucket: &RemoteBucket) -> i64 {
    bucket.rate.units(u64::from(bucket.cost)).min(bucket.rate.capacity() + 1)
}

/// Seven little-endian bytes, which hold any number below 2^53, signed or not.
fn seven(value: u64) -> [u8; 7] {
    let [a, b, c, d, e, f, g, _] = value.to_le_bytes();
    [a, b, c, d, e, f, g]
}

/// Zero stands for the server's own time.
fn moment(at: Option<Micros>) -> [u8; 7] {
    seven(at.map_or(0, |at| at.0))
}

fn push_rate(spec: &mut Vec<u8>, bucket: &RemoteBucket) {
    let refill = u32::try_from(bucket.rate.refill()).unwrap_or(u32::MAX);
    spec.extend_from_slice(&refill.to_le_bytes());
    spec.extend_from_slice(&seven(bucket.rate.unit()));
    spec.extend_from_slice(&seven(bucket.rate.capacity().unsigned_abs()));
}

/// A change in two parts, neither larger than the capacity: together they lead from full to the deepest debt.
fn push_change(spec: &mut Vec<u8>, bucket: &RemoteBucket, units: i64, create: bool) {
    let capacity = bucket.rate.capacity();
    let first = units.clamp(-capacity, capacity);
    let further = (units - first).clamp(-capacity, capacity);
    push_rate(spec, bucket);
    spec.extend_from_slice(&seven(first.cast_unsigned()));
    spec.extend_from_slice(&seven(further.cast_unsigned()));
    spec.push(u8::from(create));
}

/// Reads the answer of [`Scripts::take`].
#[must_use]
pub fn read_taken(value: &Value) -> Option<Taken> {
    let Value::Array(values) = value else { return None };
    let [Value::Int(tokens), Value::Int(level)] = values.as_slice() else { return None };
    Some(Taken { tokens: u64::try_from(*tokens).ok()?, level: *level })
}

/// What one decision granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How many calls pass.
    pub granted: u32,
    /// The server's time.
    pub now: Micros,
    /// What each bucket holds after all of them, in units.
    pub levels: SmallVec<[i64; 4]>,
    /// For how many of them each bucket paid: all, except for a bucket in shadow mode that ran short.
    pub paid: SmallVec<[u32; 4]>,
}

impl Grant {
    /// Reads the answer of [`Scripts::admit`] about so many buckets.
    #[must_use]
    pub fn read(value: &Value, bucket_count: usize) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        let number = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
        let [granted, now, buckets @ ..] = values.as_slice() else { return None };
        if buckets.len() != 2 * bucket_count {
            return None;
        }
        let mut grant = Self {
            granted: u32::try_from(number(granted)?).ok()?,
            now: Micros(u64::try_from(number(now)?).ok()?),
            levels: SmallVec::new(),
            paid: SmallVec::new(),
        };
        for pair in buckets.chunks_exact(2) {
            let [level, paid] = pair else { return None };
            grant.levels.push(number(level)?);
            grant.paid.push(u32::try_from(number(paid)?).ok()?);
        }
        Some(grant)
    }

    /// The verdict for one of the calls, by its place among those that asked together.
    #[must_use]
    pub fn verdict(&self, ask: &Ask, place: u32) -> RemoteVerdict {
        let mut verdict = RemoteVerdict {
            admitted: place < self.granted,
            levels: self.levels.clone(),
            pays: SmallVec::new(),
        };
        for ((bucket, level), paid) in ask.buckets.iter().zip(&mut verdict.levels).zip(&self.paid) {
            // What later calls of the same decision paid is still there when this one looks.
            let later = paid.saturating_sub(place.saturating_add(1));
            *level = level.saturating_add(cost(bucket).saturating_mul(i64::from(later)));
            verdict.pays.push(place < *paid);
        }
        verdict
    }

    /// For how many calls each bucket paid that nobody made, if only the first `used` were made.
    #[must_use]
    pub fn unused(&self, used: u32) -> SmallVec<[u32; 4]> {
        self.paid.iter().map(|paid| paid.saturating_sub(used)).collect()
    }
}

#[cfg(test)]
mod tests;
