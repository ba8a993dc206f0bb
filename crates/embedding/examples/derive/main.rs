//! Derives the models in `assets/`, and the reference vectors of the tests, from the original weights.
//!
//! `cargo run --release -p vmcp-embedding --example derive -- STEP MODEL-FOLDER PACKAGE-LIST`, first with the
//! step `minilm`, then with `static`, which uses the model that the first step has written. `cargo xtask
//! model` runs both. `assets/PROVENANCE.md` documents the origin of the inputs.

mod calibrate;
mod corpus;
mod fit;
mod linear;
mod pack;
mod reference;
mod rounding;
mod tensors;
mod weights;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use vmcp_embedding::tokenize;

use self::rounding::Rounded;
use self::tensors::{Tensors, hexadecimal};
use self::weights::{POSITIONS, Weights};

/// SHA-256 of `model.safetensors`.
const WEIGHTS_DIGEST: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
/// SHA-256 of `vocab.txt`.
const VOCABULARY_DIGEST: &str = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3";

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let step = arguments.next().context("say `minilm` or `static`")?;
    let model = PathBuf::from(arguments.next().context("the folder of the model is missing")?);
    let packages = PathBuf::from(arguments.next().context("the list of packages is missing")?);
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let assets = own.join("assets");
    let vocabulary = std::fs::read_to_string(model.join("vocab.txt")).context("vocab.txt")?;
    ensure!(hexadecimal(vocabulary.as_bytes()) == VOCABULARY_DIGEST, "vocab.txt is another one");
    let lines = corpus::read(&packages)?;
    match step.as_str() {
        "minilm" => {
            write(&assets.join("vocab.txt"), vocabulary.as_bytes())?;
            let weights = Weights::read(&Tensors::read(&model.join("model.safetensors"), WEIGHTS_DIGEST)?)?;
            let words = Rounded::nearest(&weights.words);
            let sample = corpus::sample(&lines);
            let texts: Vec<Vec<u16>> = sample.iter().map(|text| tokenize(text, POSITIONS)).collect();
            let packed = pack::pack(&weights, &words, &calibrate::round(&weights, &words, &texts));
            write_asset(&assets.join("minilm-q4"), &packed)?;
            write_reference(&weights, &own.join("tests/it/texts"))
        }
        "static" => {
            let words = Rounded::nearest(&fit::fit(&lines, &vocabulary));
            write_asset(&assets.join("static-q4"), &pack::pack_words(&words))
        }
        other => bail!("{other} is no step; say `minilm` or `static`"),
    }
}

/// Writes an asset and its digest.
fn write_asset(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write(&path.with_extension("bin"), bytes)?;
    write(&path.with_extension("sha256"), hexadecimal(bytes).as_bytes())
}

/// Writes the vectors of the tests' texts by the original weights.
fn write_reference(weights: &Weights, folder: &Path) -> anyhow::Result<()> {
    let texts = std::fs::read_to_string(folder.join("pieces.json")).context("pieces.json")?;
    let texts: Vec<(String, Vec<u16>)> = serde_json::from_str(&texts).context("pieces.json")?;
    let mut file = Vec::new();
    for (_, pieces) in &texts {
        let vector = reference::encode(weights, pieces);
        file.extend(vector.iter().flat_map(|value| ((value * 32_767.0).round() as i16).to_le_bytes()));
    }
    write(&folder.join("vectors.i16"), &file)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| path.display().to_string())?;
    println!("{} bytes: {}", bytes.len(), path.display());
    Ok(())
}
