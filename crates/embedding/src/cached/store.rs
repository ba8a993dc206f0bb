//! The vectors of documents of one model: a table in memory, and a file to which whole records are appended.
//!
//! Processes may share a folder. Each appends by one write at the file's end; a file that has grown too long, or is
//! damaged, is replaced in one step by a new one. Records that another process appended meanwhile may then be lost,
//! and are computed again by whoever misses them.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Digest, QuantizedVector, append_record, model_digest, parse_records};

/// A file is never read or written further than this.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// See the module.
pub(super) struct DocumentStore {
    folder: Option<PathBuf>,
    model: Option<Arc<str>>,
    vectors: HashMap<Digest, QuantizedVector>,
    /// The oldest first.
    insertion_order: VecDeque<Digest>,
    vectors_max: usize,
    /// Bytes of the file, as far as this process knows.
    file_bytes: u64,
    /// Whether a failure was logged. One is enough.
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

    /// The vectors of these documents, as far as they are known.
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

    /// Forgets the vectors of another model and reads those of this one.
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

    /// The model's own file. Its name is the model's mark, for an identity may hold any character.
    fn path(&self) -> Option<PathBuf> {
        let mark = model_digest(self.model.as_ref()?);
        let digits: String = mark.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.folder.as_ref()?.join(format!("vectors-{digits}.bin")))
    }

    /// Twice what is kept: then half of the file at least is worth being dropped.
    fn file_bytes_max(&self) -> u64 {
        let record = self.vectors.values().next().map_or(0, QuantizedVector::record_bytes) as u64;
        (2 * record * self.vectors_max as u64).min(FILE_BYTES_MAX)
    }

    /// Replaces the file by one of what is kept, the youngest if not all fit into half of the bound.
    fn rewrite(&mut self, path: &Path) {
        let Some(model) = &self.model else { return };
        let mark = model_digest(model);
        let record = self.vectors.values().next().map_or(1, QuantizedVector::record_bytes).max(1);
        let fits = (FILE_BYTES_MAX / 2) as usize / record;
        let mut records = Vec::new();
        for digest in self.insertion_order.iter().skip(self.insertion_order.len().saturating_sub(fits)) {
            if let Some(rounded) = self.vectors.get(digest) {
                append_record(mark, digest, rounded, &mut records);
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
            tracing::warn!(%error, path = %path.display(), "vectors are not kept on disk");
        }
    }
}

/// The last part of a file that may be read, and whether that is all of it.
fn read_tail(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(path)?;
    let surplus = file.metadata()?.len().saturating_sub(FILE_BYTES_MAX);
    file.seek(SeekFrom::Start(surplus))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok((bytes, surplus == 0))
}

/// By one write, which another process's cannot come between.
fn append(path: &Path, records: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let written = file.write(records)?;
    if written == records.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// Whoever has the old file open keeps it; whoever opens it later finds the new one.
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
        // The failure worth telling is the first.
        std::fs::remove_file(&scratch).unwrap_or_default();
    }
    replaced
}
