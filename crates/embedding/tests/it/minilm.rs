//! The packed model against the original weights.

use vmcp_embedding::{Embedder as _, MiniLm, Purpose};

use crate::texts::{cosine, reference_texts, truncated};

#[test]
fn vectors_point_where_those_of_the_original_weights_do() {
    let known = reference_texts();
    let texts: Vec<String> = known.iter().map(|known| known.text.clone()).collect();
    let vectors = MiniLm::new().vectors(&texts);
    let mut sum = 0.0;
    for (vector, known) in vectors.iter().zip(&known) {
        let cosine = cosine(vector, &known.vector);
        println!("{cosine:.4} {:?}", truncated(&known.text));
        assert!(cosine > 0.92, "{cosine} for {:?}", truncated(&known.text));
        sum += cosine;
    }
    let mean = sum / known.len() as f32;
    println!("mean {mean:.4}");
    assert!(mean >= 0.98, "{mean}");
}

#[test]
fn company_does_not_change_a_vector() {
    let texts: Vec<String> = reference_texts().into_iter().map(|known| known.text).collect();
    let model = MiniLm::new();
    let together = model.vectors(&texts);
    for (text, together) in texts.iter().zip(&together) {
        let alone = model.vectors(std::slice::from_ref(text));
        assert!(cosine(&alone[0], together) > 0.999_999, "{:?}", truncated(text));
    }
}

#[tokio::test]
async fn an_embedder_names_its_model_and_gives_unit_vectors() {
    let model = MiniLm::new();
    let texts: Vec<String> = (0..20).map(|index| format!("text number {index}")).collect();
    let documents = model.embed(Purpose::Document, &texts).await.unwrap();
    assert_eq!(documents.vectors.len(), texts.len());
    assert_eq!(documents.vectors, model.vectors(&texts));
    assert!(documents.model.starts_with("minilm-l6-v2-q4@"), "{}", documents.model);
    assert_eq!(documents.model.len(), "minilm-l6-v2-q4@".len() + 8);
    for vector in &documents.vectors {
        assert_eq!(vector.len(), MiniLm::DIMENSION);
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
    let none = model.embed(Purpose::Query, &[]).await.unwrap();
    assert_eq!(none.vectors.len(), 0);
}
