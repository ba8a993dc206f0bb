//! The static vectors against the original weights.

use vmcp_embedding::{Embedder as _, Purpose, StaticVectors};

use crate::texts::{cosine, reference_texts};

/// For at least three quarters of the texts, the nearest other text by the original weights is among the
/// three nearest by the static vectors.
#[test]
fn neighbours_are_those_of_the_original_weights() {
    // Texts that are not English, or no sentences, are outside the scope of averaged English words.
    let known: Vec<_> = reference_texts().into_iter().skip(4).take(28).collect();
    let texts: Vec<String> = known.iter().map(|known| known.text.clone()).collect();
    let vectors = StaticVectors::new().vectors(&texts);
    let ranked = |own: usize, cosine: &dyn Fn(usize) -> f32| {
        let mut others: Vec<usize> = (0..texts.len()).filter(|other| *other != own).collect();
        others.sort_by(|a, b| cosine(*b).total_cmp(&cosine(*a)));
        others
    };
    let found = (0..texts.len()).filter(|own| {
        let exact = ranked(*own, &|other| cosine(&known[*own].vector, &known[other].vector));
        let near = ranked(*own, &|other| cosine(&vectors[*own], &vectors[other]));
        near[..3].contains(&exact[0])
    });
    let found = found.count();
    println!("{found} of {}", texts.len());
    assert!(found * 4 >= texts.len() * 3, "{found} of {}", texts.len());
}

#[test]
fn a_query_finds_its_tool() {
    let model = StaticVectors::new();
    let tools = [
        "get weather: Returns the forecast for a city",
        "send mail: Delivers a message to a mailbox",
        "create issue: Reports a bug in a repository",
    ]
    .map(str::to_owned);
    let tools = model.vectors(&tools);
    for (query, right) in [("will it rain tomorrow", 0), ("write an email", 1), ("file a bug report", 2)] {
        let query = &model.vectors(&[query.to_owned()])[0];
        let nearest = (0..3).max_by(|a, b| cosine(query, &tools[*a]).total_cmp(&cosine(query, &tools[*b])));
        assert_eq!(nearest, Some(right));
    }
}

#[tokio::test]
async fn an_embedder_names_its_model() {
    let model = StaticVectors::new();
    let texts: Vec<String> = (0..150).map(|index| format!("text number {index}")).collect();
    let embedded = model.embed(Purpose::Document, &texts).await.unwrap();
    assert_eq!(embedded.vectors, model.vectors(&texts));
    assert_eq!(embedded.vectors[0].len(), StaticVectors::DIMENSION);
    assert!(embedded.model.starts_with("static-q4@"), "{}", embedded.model);
}
