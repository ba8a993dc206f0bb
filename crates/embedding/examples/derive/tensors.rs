//! Reads the tensors of a safetensors file: a JSON header, then numbers.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The tensors of a file, in memory.
pub(crate) struct Tensors {
    header: Value,
    data: Vec<u8>,
}

impl Tensors {
    /// Reads the file. It is an error if the SHA-256 of the file is not `digest`.
    pub(crate) fn read(path: &Path, digest: &str) -> anyhow::Result<Self> {
        let mut file = std::fs::read(path).with_context(|| path.display().to_string())?;
        let found = hexadecimal(&file);
        ensure!(found == digest, "{} has the digest {found}, not {digest}", path.display());
        let length = file.first_chunk::<8>().context("no header")?;
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        let header = file.get(8..8 + length).context("the header is cut off")?;
        let header = serde_json::from_slice(header).context("the header")?;
        let data = file.split_off(8 + length);
        Ok(Self { header, data })
    }

    /// The numbers of a tensor, row after row. It is an error if the tensor has another shape.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> anyhow::Result<Vec<f32>> {
        let entry = self.header.get(name).with_context(|| format!("no tensor {name}"))?;
        ensure!(entry["dtype"] == "F32", "{name} is no tensor of f32");
        ensure!(entry["shape"] == serde_json::to_value(shape)?, "{name} has the shape {}", entry["shape"]);
        let offset = |index: usize| entry["data_offsets"][index].as_u64().map(usize::try_from);
        let start = offset(0).context("no start")??;
        let end = offset(1).context("no end")??;
        let bytes = self.data.get(start..end).with_context(|| format!("{name} is cut off"))?;
        let (numbers, _) = bytes.as_chunks();
        Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// The SHA-256 in hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
