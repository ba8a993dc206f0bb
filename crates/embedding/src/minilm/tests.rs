use sha2::{Digest as _, Sha256};

use super::*;
use crate::minilm::dispatch::encode_portable;

fn texts() -> Vec<String> {
    let mut texts: Vec<String> =
        ["", "delete a file", "Größe ändern 🚀", "how is the weather in Paris?"].map(str::to_owned).to_vec();
    texts.push("every tool has a description ".repeat(60));
    texts
}

#[test]
fn the_code_for_any_processor_agrees_with_the_fast_one() {
    let model = MiniLm::new();
    let fast = model.vectors(&texts());
    let plain = model.vectors_by(encode_portable, &texts());
    for (fast, plain) in fast.iter().zip(&plain) {
        let cosine: f32 = fast.iter().zip(plain).map(|(fast, plain)| fast * plain).sum();
        // A different rounding of a sum may change the rounding of an input of the next layer.
        assert!(cosine > 0.9995, "{cosine}");
    }
}

#[test]
fn the_digest_is_that_of_the_asset() {
    let asset =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/minilm-q4.bin")).expect("the asset");
    let digest: String = Sha256::digest(&asset).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, DIGEST);
}
