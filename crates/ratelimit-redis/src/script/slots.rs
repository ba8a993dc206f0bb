//! The calls of the scripts that keep limits on calls in flight.

use std::time::Duration;

use redis::Value;
use smallvec::SmallVec;
use vmcp_ratelimit::{
    AdmitRequest, CallId, RemoteSlotLimit, SlotReport, SlotRequest, SlotVerdict, policy::Mode,
};

use super::{ScriptCall, Scripts, count_argument, push_records};
use crate::script::reply::AdmitGrant;

impl Scripts {
    /// Asks for a slot for one call under every limit of the request, and for payment from buckets of the
    /// same partition.
    #[must_use]
    pub fn acquire<'a>(&'a self, request: &'a SlotRequest, buckets: &'a AdmitRequest) -> ScriptCall<'a> {
        let mut spec = Vec::with_capacity(31 + 33 * buckets.buckets.len() + 5 * request.limits.len());
        spec.extend_from_slice(&self.time_argument(None));
        spec.extend_from_slice(&count_argument(buckets.buckets.len()));
        spec.extend_from_slice(&count_argument(request.limits.len()));
        spec.extend_from_slice(&millis(request.lease).to_le_bytes());
        spec.extend_from_slice(&request.call.0);
        push_records(&mut spec, buckets);
        for slots in &request.limits {
            spec.extend_from_slice(&slots.count_max.to_le_bytes());
            spec.push(u8::from(slots.mode == Mode::Enforce));
        }
        let ended = request.ended.iter().map(|ended| call_id_bytes(&[], ended));
        // Each limit has its list of ended calls, even if the request has none.
        let ended = ended.chain(std::iter::repeat(Vec::new())).take(request.limits.len());
        let mut call = self.bucket_call(&self.acquire, buckets.buckets.iter(), spec);
        call.partition = request.limits.first().and_then(|slots| slots.partition.as_deref());
        call.other_keys = request.limits.iter().map(|slots| &*slots.key).collect();
        if call.args.len() == 1 {
            call.args.push(Vec::new());
        }
        call.args.extend(ended);
        call
    }

    /// Reports which calls are in flight and which have ended.
    #[must_use]
    pub fn report<'a>(
        &'a self,
        partition: Option<&'a str>,
        reports: &'a [SlotReport],
        lease: Duration,
    ) -> ScriptCall<'a> {
        let said = reports.iter().map(|report| {
            let held = u32::try_from(report.held.len()).unwrap_or(u32::MAX).to_le_bytes();
            let mut said = call_id_bytes(&held, &report.held);
            said.extend_from_slice(&call_id_bytes(&[], &report.ended));
            said
        });
        ScriptCall {
            partition,
            keys: reports.iter().map(|report| &*report.key).collect(),
            args: std::iter::once(millis(lease).to_string().into_bytes()).chain(said).collect(),
            ..self.other_call(&self.report)
        }
    }

    /// Asks how many calls hold a slot.
    #[must_use]
    pub fn count<'a>(&'a self, slots: &'a [RemoteSlotLimit]) -> ScriptCall<'a> {
        ScriptCall {
            partition: slots.first().and_then(|slots| slots.partition.as_deref()),
            keys: slots.iter().map(|slots| &*slots.key).collect(),
            ..self.other_call(&self.count)
        }
    }
}

/// At least one millisecond: a lease of zero would never count.
fn millis(lease: Duration) -> u32 {
    u32::try_from(lease.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn call_id_bytes(before: &[u8], calls: &[CallId]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(before.len() + 16 * calls.len());
    bytes.extend_from_slice(before);
    for call in calls {
        bytes.extend_from_slice(&call.0);
    }
    bytes
}

/// Parses the reply of [`Scripts::acquire`] about this number of buckets and of limits; `None` for a reply of
/// another shape.
#[must_use]
pub fn read_acquire(value: &Value, buckets: usize, count: usize) -> Option<(SlotVerdict, AdmitGrant)> {
    let Value::Array(values) = value else { return None };
    let grant = AdmitGrant::from_values(values.get(1..3 + 2 * buckets)?, buckets)?;
    let numbers = numbers(value)?;
    let (admitted, bounds) = (numbers.first()?, numbers.get(3 + 2 * buckets..)?);
    if bounds.len() != 2 * count {
        return None;
    }
    let counts = bounds.iter().step_by(2).map(|count| u32::try_from(*count).ok()).collect::<Option<_>>()?;
    let holds = bounds.iter().skip(1).step_by(2).map(|holds| *holds == 1).collect();
    Some((SlotVerdict { admitted: *admitted == 1, counts, holds }, grant))
}

/// Parses the reply of [`Scripts::count`] about this number of limits; `None` for a reply of another shape.
#[must_use]
pub fn read_counts(value: &Value, count: usize) -> Option<SmallVec<[u32; 2]>> {
    let numbers = numbers(value)?;
    (numbers.len() == count).then(|| numbers.iter().map(|count| u32::try_from(*count).ok()).collect())?
}

fn numbers(value: &Value) -> Option<Vec<i64>> {
    let Value::Array(values) = value else { return None };
    let number = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
    values.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use vmcp_ratelimit::{Rate, RemoteBucket};
    use vmcp_timing::Micros;

    use super::*;

    fn slot_limit(key: &str) -> RemoteSlotLimit {
        RemoteSlotLimit { key: key.into(), count_max: 2, mode: Mode::Enforce, partition: Some("ann".into()) }
    }

    #[test]
    fn a_question_carries_a_list_of_the_ended_for_every_bound() {
        let scripts = Scripts::new("p:{n:s}:".to_owned());
        let request = SlotRequest {
            call: CallId([7; 16]),
            lease: Duration::from_secs(15),
            limits: [slot_limit("a"), slot_limit("b")].into_iter().collect(),
            ended: std::iter::once(vec![CallId([1; 16]), CallId([2; 16])]).collect(),
        };
        let none = AdmitRequest { buckets: SmallVec::new() };
        let call = scripts.acquire(&request, &none);
        assert_eq!(call.keys(), ["p:{n:s/ann}:2:a", "p:{n:s/ann}:2:b"]);
        let lengths = |call: &ScriptCall<'_>| call.args().iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&call), [31 + 2 * 5, 0, 32, 0]);
        let rate = Rate::new(10, Duration::from_secs(1), 10).unwrap();
        let partition = Some("ann".into());
        let bucket = RemoteBucket {
            key: "c".into(),
            rate,
            cost: 1,
            mode: Mode::Enforce,
            shadow_rule: None,
            partition,
            period: None,
            legacy_keys: None,
        };
        let buckets = AdmitRequest { buckets: std::iter::once(bucket).collect() };
        let call = scripts.acquire(&request, &buckets);
        assert_eq!(call.keys(), ["p:{n:s/ann}:3:c", "p:{n:s/ann}:2:a", "p:{n:s/ann}:2:b"]);
        assert_eq!(lengths(&call), [31 + 33 + 2 * 5, 0, 32, 0]);
        let report = SlotReport { key: "a".into(), held: vec![request.call], ended: vec![CallId([1; 16])] };
        let call = scripts.report(None, std::slice::from_ref(&report), request.lease);
        assert_eq!(call.keys(), ["p:{n:s}:2:a"]);
        assert_eq!(call.args()[0], b"15000");
        assert_eq!(call.args()[1].len(), 4 + 16 + 16);
    }

    #[test]
    fn answers_of_another_shape_are_none() {
        let numbers = |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());
        let (verdict, _) = read_acquire(&numbers(&[1, 1, 77, 3, 1, 9, 0]), 0, 2).unwrap();
        assert_eq!(
            (verdict.admitted, &verdict.counts[..], &verdict.holds[..]),
            (true, &[3, 9][..], &[true, false][..])
        );
        let (verdict, grant) = read_acquire(&numbers(&[0, 1, 77, 40, 0, 3, 0]), 1, 1).unwrap();
        assert_eq!(
            (verdict.admitted, &verdict.counts[..], &verdict.holds[..]),
            (false, &[3][..], &[false][..])
        );
        assert_eq!(
            (grant.granted_count, grant.now, &grant.levels[..], &grant.paid_counts[..]),
            (1, Micros(77), &[40][..], &[0][..])
        );
        assert!(read_acquire(&numbers(&[1, 1, 77, 3]), 0, 1).is_none());
        assert!(read_acquire(&numbers(&[1, 1, 77, -3, 1]), 0, 1).is_none());
        assert!(read_acquire(&numbers(&[1]), 0, 0).is_none());
        assert!(read_acquire(&Value::Nil, 0, 0).is_none());
        assert_eq!(read_counts(&numbers(&[4]), 1).as_deref(), Some(&[4][..]));
        assert!(read_counts(&numbers(&[4]), 2).is_none());
    }
}
