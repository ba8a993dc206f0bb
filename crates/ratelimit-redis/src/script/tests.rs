use std::time::Duration;

use redis::Value;
use vmcp_ratelimit::Rate;
use vmcp_timing::Micros;

use super::*;

fn admit_request() -> AdmitRequest {
    let rate = Rate::new(10, Duration::from_secs(1), 10).unwrap();
    let bucket = |key: &str, mode| RemoteBucket {
        key: key.into(),
        rate,
        cost: 2,
        mode,
        shadow_rule: None,
        partition: None,
        period: None,
        legacy_keys: None,
    };
    AdmitRequest { buckets: [bucket("a", Mode::Enforce), bucket("b", Mode::Shadow)].into_iter().collect() }
}

fn units(tokens: i64) -> i64 {
    tokens * 100_000
}

#[test]
fn a_grant_for_several_is_a_verdict_for_each() {
    let answer = [3, 77, units(4), 3, units(1), 2].map(Value::Int).to_vec();
    let grant = AdmitGrant::read(&Value::Array(answer), 2).unwrap();
    assert_eq!(grant.now, Micros(77));
    let expected = [
        (true, [8, 3], [true, true]),
        (true, [6, 1], [true, true]),
        (true, [4, 1], [true, false]),
        (false, [4, 1], [false, false]),
    ];
    for (index, (admitted, left, pays)) in (0..).zip(expected) {
        let verdict = grant.verdict(&admit_request(), index);
        assert_eq!(verdict.admitted, admitted, "{index}");
        assert_eq!(verdict.levels.as_slice(), left.map(units), "{index}");
        assert_eq!(verdict.pays.as_slice(), pays, "{index}");
    }
    assert_eq!(grant.unused_counts(0).as_slice(), [3, 2]);
    assert_eq!(grant.unused_counts(2).as_slice(), [1, 0]);
    assert_eq!(grant.unused_counts(9).as_slice(), [0, 0]);
}

#[test]
fn answers_of_another_shape_are_none() {
    let numbers = |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());
    assert!(AdmitGrant::read(&Value::Nil, 1).is_none());
    assert!(AdmitGrant::read(&numbers(&[1]), 1).is_none());
    assert!(AdmitGrant::read(&numbers(&[1, 2, 3]), 1).is_none());
    assert!(AdmitGrant::read(&numbers(&[1, 2, 3, 4]), 2).is_none());
    assert!(AdmitGrant::read(&numbers(&[-1, 2, 3, 4]), 1).is_none());
    assert!(AdmitGrant::read(&numbers(&[1, 2, 3, 4]), 1).is_some());
}

#[test]
fn a_call_names_its_keys_and_carries_one_argument() {
    let scripts = Scripts::new("p:{n:s}:".to_owned());
    let request = admit_request();
    let call = scripts.admit(&request, 1, None);
    assert_eq!(call.keys(), ["p:{n:s}:3:a", "p:{n:s}:3:b"]);
    let words: Vec<Vec<u8>> = call
        .by_digest()
        .args_iter()
        .map(|arg| match arg {
            redis::Arg::Simple(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(words.len(), 6);
    assert_eq!(words[0], b"EVALSHA");
    assert_eq!(words[1], scripts.admit.digest().as_bytes());
    assert_eq!(words[2], b"2");
    assert_eq!(words[5].len(), 11 + 2 * 33);
    let change = Adjustment { bucket: request.buckets[1].clone(), tokens: -2, paid_at: Some(Micros(1)) };
    let changes = [change];
    let call = scripts.adjust(&changes, None);
    assert_eq!(call.keys(), ["p:{n:s}:3:b"]);
    assert_eq!(call.args()[0].len(), 9 + 53);
}
