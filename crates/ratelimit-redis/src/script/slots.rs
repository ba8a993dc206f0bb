//! The calls of the scripts that keep bounds on calls in flight.

use std::time::Duration;

use redis::Value;
use smallvec::SmallVec;
use vmcp_ratelimit::{CallName, RemoteSlots, SlotAsk, SlotReport, SlotVerdict, policy::Mode};

use super::{Call, Scripts};

impl Scripts {
    /// Asks for a slot for one call under every bound of an ask.
    #[must_use]
    pub fn enter<'a>(&'a self, ask: &'a SlotAsk) -> Call<'a> {
        let mut spec = Vec::with_capacity(20 + 5 * ask.slots.len());
        spec.extend_from_slice(&millis(ask.lease).to_le_bytes());
        spec.extend_from_slice(&ask.call.0);
        for slots in &ask.slots {
            spec.extend_from_slice(&slots.count_max.to_le_bytes());
            spec.push(u8::from(slots.mode == Mode::Enforce));
        }
        let ended = ask.ended.iter().map(|ended| names(&[], ended));
        // Each bound has its list, also where the asker gives none.
        let ended = ended.chain(std::iter::repeat(Vec::new())).take(ask.slots.len());
        Call {
            home: ask.slots.first().and_then(|slots| slots.home.as_deref()),
            keys: ask.slots.iter().map(|slots| &*slots.key).collect(),
            args: std::iter::once(spec).chain(ended).collect(),
            ..self.on_others(&self.enter)
        }
    }

    /// Says which calls are in flight and which have ended.
    #[must_use]
    pub fn report<'a>(
        &'a self,
        home: Option<&'a str>,
        reports: &'a [SlotReport],
        lease: Duration,
    ) -> Call<'a> {
        let said = reports.iter().map(|report| {
            let held = u32::try_from(report.held.len()).unwrap_or(u32::MAX).to_le_bytes();
            let mut said = names(&held, &report.held);
            said.extend_from_slice(&names(&[], &report.ended));
            said
        });
        Call {
            home,
            keys: reports.iter().map(|report| &*report.key).collect(),
            args: std::iter::once(millis(lease).to_string().into_bytes()).chain(said).collect(),
            ..self.on_others(&self.report)
        }
    }

    /// Asks how many calls hold a slot.
    #[must_use]
    pub fn count<'a>(&'a self, slots: &'a [RemoteSlots]) -> Call<'a> {
        Call {
            home: slots.first().and_then(|slots| slots.home.as_deref()),
            keys: slots.iter().map(|slots| &*slots.key).collect(),
            ..self.on_others(&self.count)
        }
    }
}

/// At least one: a lease of nothing would never count.
fn millis(lease: Duration) -> u32 {
    u32::try_from(lease.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn names(before: &[u8], calls: &[CallName]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(before.len() + 16 * calls.len());
    bytes.extend_from_slice(before);
    for call in calls {
        bytes.extend_from_slice(&call.0);
    }
    bytes
}

/// Reads the answer of [`Scripts::enter`] about so many bounds.
#[must_use]
pub fn read_entered(value: &Value, count: usize) -> Option<SlotVerdict> {
    let [admitted, bounds @ ..] = &*numbers(value)? else { return None };
    if bounds.len() != 2 * count {
        return None;
    }
    let counts = bounds.iter().step_by(2).map(|count| u32::try_from(*count).ok()).collect::<Option<_>>()?;
    let holds = bounds.iter().skip(1).step_by(2).map(|holds| *holds == 1).collect();
    Some(SlotVerdict { admitted: *admitted == 1, counts, holds })
}

/// Reads the answer of [`Scripts::count`] about so many bounds.
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
    use super::*;

    fn slots(key: &str) -> RemoteSlots {
        RemoteSlots { key: key.into(), count_max: 2, mode: Mode::Enforce, home: Some("ann".into()) }
    }

    #[test]
    fn a_question_carries_a_list_of_the_ended_for_every_bound() {
        let scripts = Scripts::new("p:{n:s}:".to_owned());
        let ask = SlotAsk {
            call: CallName([7; 16]),
            lease: Duration::from_secs(15),
            slots: [slots("a"), slots("b")].into_iter().collect(),
            ended: std::iter::once(vec![CallName([1; 16]), CallName([2; 16])]).collect(),
        };
        let call = scripts.enter(&ask);
        assert_eq!(call.keys(), ["p:{n:s/ann}:2:a", "p:{n:s/ann}:2:b"]);
        assert_eq!(call.args().iter().map(Vec::len).collect::<Vec<_>>(), [4 + 16 + 2 * 5, 32, 0]);
        let report = SlotReport { key: "a".into(), held: vec![ask.call], ended: vec![CallName([1; 16])] };
        let call = scripts.report(None, std::slice::from_ref(&report), ask.lease);
        assert_eq!(call.keys(), ["p:{n:s}:2:a"]);
        assert_eq!(call.args()[0], b"15000");
        assert_eq!(call.args()[1].len(), 4 + 16 + 16);
    }

    #[test]
    fn answers_of_another_shape_are_none() {
        let numbers = |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());
        let verdict = read_entered(&numbers(&[1, 3, 1, 9, 0]), 2).unwrap();
        assert_eq!(
            (verdict.admitted, &verdict.counts[..], &verdict.holds[..]),
            (true, &[3, 9][..], &[true, false][..])
        );
        assert!(read_entered(&numbers(&[1, 3]), 1).is_none());
        assert!(read_entered(&numbers(&[1, -3, 1]), 1).is_none());
        assert!(read_entered(&Value::Nil, 0).is_none());
        assert_eq!(read_counts(&numbers(&[4]), 1).as_deref(), Some(&[4][..]));
        assert!(read_counts(&numbers(&[4]), 2).is_none());
    }
}
