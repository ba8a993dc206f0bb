use proptest::prelude::*;

use super::*;

fn levels() -> SavedLevels {
    let rate = |tokens| Rate::new(tokens, Duration::from_secs(60), tokens).unwrap();
    let state = |bucket, units| SavedState { bucket_index: bucket, units, period: Micros(0) };
    SavedLevels {
        secrets: fresh_secrets(),
        saved_at: Micros(1_795_975_200_000_000),
        buckets: vec![
            SavedBucket { key: "shared:60s".into(), rate: rate(5), state: Some(state(0, -7)) },
            SavedBucket { key: "user:60s".into(), rate: rate(9), state: None },
            SavedBucket {
                key: "user:day@Europe/Berlin~0000".into(),
                rate: Rate::per_calendar_period(500, Duration::from_secs(86_400)).unwrap(),
                state: None,
            },
        ],
        values: vec![(UserKey::new(7), state(0, 1))],
        users: vec![(
            UserKey::new(1 << 100),
            vec![state(1, 3), SavedState { period: Micros(1 << 50), ..state(2, 4) }],
        )],
    }
}

#[test]
fn what_is_written_is_read() {
    let levels = levels();
    assert_eq!(SavedLevels::decode(&levels.encode()), Ok(levels));
}

#[test]
fn secrets_are_new_each_time() {
    let (one, other) = (fresh_secrets(), fresh_secrets());
    assert!(one.iter().zip(&other).all(|(one, other)| one != other));
}

#[test]
fn what_another_program_has_saved_is_left() {
    let levels = levels();
    let mut bytes = levels.encode();
    let probe = MAGIC.len() + 64;
    bytes[probe] ^= 1;
    let end = bytes.len() - CHECKSUM_BYTES;
    let checksum = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum);
    assert_eq!(SavedLevels::decode(&bytes), Err(SavedLevelsError::Foreign));
    assert_eq!(SavedLevels::decode(b"something else"), Err(SavedLevelsError::Format));
}

proptest! {
    /// Truncated bytes, or bytes with one flipped bit, are never accepted as saved levels.
    #[test]
    fn a_torn_text_is_refused(cut in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let bytes = levels().encode();
        prop_assert!(SavedLevels::decode(&bytes[..cut.index(bytes.len())]).is_err());
        let mut changed = bytes.clone();
        changed[place.index(bytes.len())] ^= 1 << bit;
        prop_assert!(SavedLevels::decode(&changed).is_err());
    }

    /// Arbitrary bytes are decoded or rejected, and no count makes the decoder allocate memory for it.
    #[test]
    fn any_bytes_are_safe(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = SavedLevels::decode(&bytes);
        let mut text = MAGIC.to_vec();
        text.append(&mut bytes);
        let checksum = Sha256::digest(&text);
        text.extend_from_slice(&checksum);
        let _ = SavedLevels::decode(&text);
    }
}
