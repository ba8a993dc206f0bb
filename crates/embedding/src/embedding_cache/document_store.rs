//! The vectors of documents of one model: a table in memory, and a file to which records are appended.
//!
//! Processes may share a folder. Each appends with one write at the end of the file. A file that is too long
//! or damaged is atomically replaced by a new one. Records that another process appended meanwhile may be
//! lost; a process that lacks one computes it again.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::embedding_cache::vector_record::{
    Digest, QuantizedVector, append_record, model_digest, parse_records,
};

/// Maximum number of bytes of a file that are read, and maximum size to which a file grows.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The store of one model at a time. Another model replaces the table and uses its own file.
pub(super) struct DocumentStore {
    folder: Option<PathBuf>,
    model: Option<Arc<str>>,
    vectors: HashMap<Digest, QuantizedVector>,
    /// The digests in the order of insertion, oldest first.
    insertion_order: VecDeque<Digest>,
    vectors_max: usize,
    /// The size of the file in bytes, as far as this process knows.
    file_bytes: u64,
    /// Whether a failure was logged; only the first one is.
    has_warned: bool,
}

impl DocumentStore {
    pub(super) fn new(folder: Option<&Path>, vectors_max: usize) -> Self {
        Self {
            folder: folder.map(Path::to_owned),
            model: None,
            vectors: HashMap::new(),
            insertion_order: VecDeque::new(),
            vectors_max,
            file_bytes: 0,
            has_warned: false,
        }
    }

    /// The vectors of these documents; `None` for each that is unknown.
    pub(super) fn get(&mut self, model: &Arc<str>, digests: &[Digest]) -> Vec<Option<Vec<f32>>> {
        self.use_model(model);
        digests.iter().map(|digest| self.vectors.get(digest).map(QuantizedVector::dequantize)).collect()
    }

    pub(super) fn insert_all(&mut self, model: &Arc<str>, digests: &[Digest], vectors: &[Vec<f32>]) {
        self.use_model(model);
        let mut records = Vec::new();
        for (digest, vector) in digests.iter().zip(vectors) {
            let rounded = QuantizedVector::new(vector);
            append_record(model_digest(model), digest, &rounded, &mut records);
            self.insert(*digest, rounded);
        }
        let Some(path) = self.path() else { return };
        let grown = self.file_bytes + records.len() as u64;
        if grown > self.file_bytes_max() {
            self.rewrite(&path);
        } else {
            let written = append(&path, &records);
            self.file_bytes = grown;
            self.warn_once(&path, written);
        }
    }

    fn insert(&mut self, digest: Digest, rounded: QuantizedVector) {
        if self.vectors.insert(digest, rounded).is_none() {
            self.insertion_order.push_back(digest);
        }
        while self.insertion_order.len() > self.vectors_max {
            if let Some(oldest) = self.insertion_order.pop_front() {
                self.vectors.remove(&oldest);
            }
        }
    }

    /// Switches to a model: drops the vectors of the previous model and reads the file of this one.
    fn use_model(&mut self, model: &Arc<str>) {
        if self.model.as_ref() == Some(model) {
            return;
        }
        self.model = Some(model.clone());
        self.vectors.clear();
        self.insertion_order.clear();
        self.file_bytes = 0;
        let Some(path) = self.path() else { return };
        match read_tail(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.warn_once(&path, Err(error)),
            Ok((file, whole)) => {
                let found = parse_records(model_digest(model), &file);
                let count = found.records.len();
                for (digest, rounded) in found.records {
                    self.insert(digest, rounded);
                }
                self.file_bytes = file.len() as u64;
                if found.is_damaged || !whole || count > self.insertion_order.len() {
                    self.rewrite(&path);
                }
            }
        }
    }

    /// The model's file. Its name is the model's digest, because an identity may contain any character.
    fn path(&self) -> Option<PathBuf> {
        let model_digest = model_digest(self.model.as_ref()?);
        let digits: String = model_digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.folder.as_ref()?.join(format!("vectors-{digits}.bin")))
    }

    /// Twice the size of the records in memory, so that a rewrite drops at least half of the file.
    fn file_bytes_max(&self) -> u64 {
        let record = self.vectors.values().next().map_or(0, QuantizedVector::record_bytes) as u64;
        (2 * record * self.vectors_max as u64).min(FILE_BYTES_MAX)
    }

    /// Replaces the file by the records in memory; by the youngest ones if not all fit into half of
    /// [`FILE_BYTES_MAX`].
    fn rewrite(&mut self, path: &Path) {
        let Some(model) = &self.model else { return };
        let model_digest = model_digest(model);
        let record = self.vectors.values().next().map_or(1, QuantizedVector::record_bytes).max(1);
        let fits = (FILE_BYTES_MAX / 2) as usize / record;
        let mut records = Vec::new();
        for digest in self.insertion_order.iter().skip(self.insertion_order.len().saturating_sub(fits)) {
            if let Some(rounded) = self.vectors.get(digest) {
                append_record(model_digest, digest, rounded, &mut records);
            }
        }
        let replaced = replace(path, &records);
        if replaced.is_ok() {
            self.file_bytes = records.len() as u64;
        }
        self.warn_once(path, replaced);
    }

    fn warn_once(&mut self, path: &Path, outcome: io::Result<()>) {
        if let Err(error) = outcome
            && !self.has_warned
        {
            self.has_warned = true;
            tracing::warn!(%error, path = %path.display(), "vectors are not stored on disk");
        }
    }
}

/// The last [`FILE_BYTES_MAX`] bytes of a file, and whether that is the whole file.
fn read_tail(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(path)?;
    let surplus = file.metadata()?.len().saturating_sub(FILE_BYTES_MAX);
    file.seek(SeekFrom::Start(surplus))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok((bytes, surplus == 0))
}

/// Appends with one write, so that appends of other processes cannot interleave with it.
fn append(path: &Path, records: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let written = file.write(records)?;
    if written == records.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// Replaces the file by a rename: open handles keep the old file, and later opens find the new one.
fn replace(path: &Path, records: &[u8]) -> io::Result<()> {
    let scratch = path.with_extension(format!("{}.new", std::process::id()));
    let written = || {
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&scratch)?;
        file.write_all(records)?;
        std::fs::rename(&scratch, path)
    };
    let replaced = written();
    if replaced.is_err() {
        // The first failure is returned, and a failure to remove the temporary file is ignored.
        std::fs::remove_file(&scratch).unwrap_or_default();
    }
    replaced
}
