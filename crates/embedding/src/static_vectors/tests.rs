use sha2::{Digest as _, Sha256};

use super::*;

#[test]
fn the_digest_is_that_of_the_asset() {
    let digest: String = Sha256::digest(VECTORS).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, DIGEST);
}

#[test]
fn a_text_without_words_has_a_direction_too() {
    let vectors = StaticVectors::new().vectors(&[String::new(), " \n".to_owned(), "\u{200b}".to_owned()]);
    for vector in vectors {
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
}
