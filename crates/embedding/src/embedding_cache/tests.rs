use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Returns a distinct vector for each text, and counts the texts.
struct CountingEmbedder {
    model: Mutex<Arc<str>>,
    documents: AtomicUsize,
    queries: AtomicUsize,
}

impl CountingEmbedder {
    fn new(model: &str) -> Arc<Self> {
        Arc::new(Self { model: Mutex::new(model.into()), documents: 0.into(), queries: 0.into() })
    }

    fn documents(&self) -> usize {
        self.documents.load(Ordering::SeqCst)
    }
}

fn vector(text: &str) -> Vec<f32> {
    let digest = digest(text);
    let values: Vec<f32> = digest.iter().map(|byte| f32::from(*byte) - 127.5).collect();
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter().map(|value| value / length).collect()
}

impl Embedder for CountingEmbedder {
    fn batch_size(&self) -> usize {
        3
    }

    fn embed<'a>(
        &'a self,
        purpose: Purpose,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Embeddings, EmbedError>> {
        let counter = match purpose {
            Purpose::Document => &self.documents,
            Purpose::Query => &self.queries,
        };
        counter.fetch_add(texts.len(), Ordering::SeqCst);
        let vectors = texts.iter().map(|text| vector(text)).collect();
        let model = self.model.lock().clone();
        Box::pin(async move { Ok(Embeddings { model, vectors }) })
    }
}

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|index| format!("text {index}")).collect()
}

/// The vectors of documents, checked against the expected ones.
async fn check(cached: &Cached, texts: &[String]) -> Embeddings {
    let embedded = cached.embed(Purpose::Document, texts).await.unwrap();
    assert_eq!(embedded.vectors.len(), texts.len());
    for (found, text) in embedded.vectors.iter().zip(texts) {
        let cosine: f32 = found.iter().zip(vector(text)).map(|(found, exact)| found * exact).sum();
        assert!(cosine > 0.9995, "{text}: {cosine}");
    }
    embedded
}

fn only_file(folder: &Path) -> std::path::PathBuf {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[tokio::test]
async fn a_document_is_computed_once_and_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let inner = CountingEmbedder::new("m");
    let cached = Cached::open(inner.clone(), Some(folder.path())).unwrap();
    let first = check(&cached, &texts(0..10)).await;
    assert_eq!(inner.documents(), 10);
    let second = check(&cached, &texts(0..12)).await;
    assert_eq!(inner.documents(), 12);
    assert_eq!(first.vectors[..], second.vectors[..10], "a vector does not change by being kept");
    drop(cached);

    let inner = CountingEmbedder::new("m");
    let cached = Cached::open(inner.clone(), Some(folder.path())).unwrap();
    assert_eq!(check(&cached, &texts(0..12)).await, second);
    assert_eq!(inner.documents(), 1, "the first text is asked for, to learn which model there is");
}

#[tokio::test]
async fn without_a_folder_documents_are_kept_in_memory() {
    let inner = CountingEmbedder::new("m");
    let cached = Cached::open(inner.clone(), None).unwrap();
    check(&cached, &texts(0..5)).await;
    check(&cached, &texts(0..5)).await;
    assert_eq!(inner.documents(), 5);
    assert_eq!(check(&cached, &[]).await.vectors.len(), 0);
}

#[tokio::test]
async fn vectors_of_another_model_are_not_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let inner = CountingEmbedder::new("one");
    let cached = Cached::open(inner.clone(), Some(folder.path())).unwrap();
    check(&cached, &texts(0..4)).await;
    *inner.model.lock() = "two".into();
    // The model change is seen with the first unknown text; then all texts are embedded again.
    let embedded = check(&cached, &texts(0..5)).await;
    assert_eq!(&*embedded.model, "two");
    assert_eq!(inner.documents(), 4 + 1 + 4);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a file for each model");
}

#[tokio::test]
async fn damaged_files_lose_what_is_damaged_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    check(&Cached::open(CountingEmbedder::new("m"), Some(folder.path())).unwrap(), &texts(0..10)).await;
    let path = only_file(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let record = whole.len() / 10;
    let mut flipped = whole.clone();
    flipped[record * 4 + 40] ^= 1;
    let cases: [(&str, Vec<u8>, usize); 5] = [
        ("cut off", whole[..whole.len() - 7].to_vec(), 1),
        ("a flipped bit", flipped, 1),
        ("rubbish in front", [b"VEC1 rubbish VEC", &whole[..]].concat(), 0),
        ("rubbish between", [&whole[..record * 5], b"\0\0VEC1", &whole[record * 5..]].concat(), 0),
        ("nothing but rubbish", vec![0xff; 1_000], 10),
    ];
    for (case, bytes, lost) in cases {
        std::fs::write(&path, bytes).unwrap();
        let inner = CountingEmbedder::new("m");
        let cached = Cached::open(inner.clone(), Some(folder.path())).unwrap();
        cached.embed(Purpose::Query, &["which model?".to_owned()]).await.unwrap();
        check(&cached, &texts(0..10)).await;
        assert_eq!(inner.documents(), lost, "{case}");
        let mended = std::fs::read(&path).unwrap();
        assert_eq!(mended.len(), whole.len(), "{case}: the file is written anew");
    }
}

#[tokio::test]
async fn the_oldest_documents_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let inner = CountingEmbedder::new("m");
    let cached =
        Cached::open_with_limits(inner.clone(), Some(folder.path()), 10, NonZeroUsize::new(10).unwrap())
            .unwrap();
    for start in 0..20 {
        check(&cached, &texts(start * 5..start * 5 + 5)).await;
    }
    let record = 34 + 16 + 4;
    let file = std::fs::metadata(only_file(folder.path())).unwrap().len();
    assert!(file <= 2 * 10 * record, "{file} bytes");
    let computed = inner.documents();
    check(&cached, &texts(90..100)).await;
    assert_eq!(inner.documents(), computed, "the youngest are known");
    // More texts than the cache holds are returned too.
    check(&cached, &texts(0..30)).await;
}

#[tokio::test]
async fn two_processes_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let one = Cached::open(CountingEmbedder::new("m"), Some(folder.path())).unwrap();
    let other = Cached::open(CountingEmbedder::new("m"), Some(folder.path())).unwrap();
    for start in 0..10 {
        check(&one, &texts(start * 10..start * 10 + 5)).await;
        check(&other, &texts(start * 10 + 5..start * 10 + 10)).await;
    }
    let inner = CountingEmbedder::new("m");
    let third = Cached::open(inner.clone(), Some(folder.path())).unwrap();
    check(&third, &texts(0..100)).await;
    assert_eq!(inner.documents(), 1, "both have written down what they computed");
}

#[tokio::test]
async fn a_query_asked_again_is_free() {
    let inner = CountingEmbedder::new("m");
    let cached = Cached::open_with_limits(inner.clone(), None, 10, NonZeroUsize::new(2).unwrap()).unwrap();
    let request = async |text: &str| {
        let embedded = cached.embed(Purpose::Query, &[text.to_owned()]).await.unwrap();
        assert_eq!(embedded.vectors, [vector(text)]);
        inner.queries.load(Ordering::SeqCst)
    };
    assert_eq!(request("a").await, 1);
    assert_eq!(request("a").await, 1);
    assert_eq!(request("b").await, 2);
    assert_eq!(request("a").await, 2);
    assert_eq!(request("c").await, 3, "b makes room");
    assert_eq!(request("a").await, 3);
    assert_eq!(request("b").await, 4);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(Cached::open(CountingEmbedder::new("m"), Some(&file.join("below"))).is_err());
}
