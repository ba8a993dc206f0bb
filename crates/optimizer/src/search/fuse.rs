//! Fuses the lexical and the semantic scores into one ranking. Pure: scores in, ranking out.

/// The parameters of the fusion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FusionOptions {
    /// The weight of meaning against words, 0 to 1.
    pub(crate) semantic_ratio: f32,
    /// The largest cosine distance, 0 to 2, at which meaning alone makes a match.
    pub(crate) distance_max: f32,
}

/// A matching document with its score, 0 to 1; the best document has 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fused {
    pub(crate) index: usize,
    pub(crate) score: f32,
}

/// The lexical score that counts as much as the nearest meaning.
///
/// This is a constant and not the best score of the query: a match of only a common word stays weak even if
/// it is the best one. The value is chosen so that a ratio of 0.5 is best, on two labelled sets together.
const LEXICAL_SCALE: f32 = 10.0;

/// The best `count` documents, best first; equal scores are ordered by index. A document matches if it
/// contains a word of the query or if its meaning is near enough. `count` documents are returned if that many
/// match.
///
/// `lexical` has a score for every document, 0 for no match. `leads` names the documents that come first, whatever
/// their scores are. `similarities` has a cosine for each document that can be compared, and may be empty. Cosines are rescaled to 0 to 1 before weighting, because each model has
/// its own usual range. For a document without a vector the lexical score also replaces the semantic one.
pub(crate) fn fuse(
    lexical: &[f32],
    leads: &[bool],
    similarities: &[Option<f32>],
    options: FusionOptions,
    count: usize,
) -> Vec<Fused> {
    let ratio =
        if similarities.iter().any(Option::is_some) { options.semantic_ratio.clamp(0.0, 1.0) } else { 0.0 };
    let known = || similarities.iter().flatten().copied();
    let (least, most) = (known().fold(f32::MAX, f32::min), known().fold(f32::MIN, f32::max));
    let scale_cosine = |cosine: f32| if most > least { (cosine - least) / (most - least) } else { 1.0 };
    let documents = lexical.iter().enumerate().filter_map(|(index, &score)| {
        let cosine = similarities.get(index).copied().flatten().filter(|_| ratio > 0.0);
        let is_near = cosine.is_some_and(|cosine| 1.0 - cosine <= options.distance_max);
        let lexical_score = score / LEXICAL_SCALE;
        let semantic_score = cosine.map_or(lexical_score, scale_cosine);
        (score > 0.0 || is_near)
            .then_some(Fused { index, score: lexical_score * (1.0 - ratio) + semantic_score * ratio })
    });
    let mut found: Vec<Fused> = documents.collect();
    let leads = |one: &Fused| leads.get(one.index).copied().unwrap_or_default();
    let order = |one: &Fused, other: &Fused| {
        leads(other)
            .cmp(&leads(one))
            .then(other.score.total_cmp(&one.score))
            .then(one.index.cmp(&other.index))
    };
    if count < found.len() {
        found.select_nth_unstable_by(count, order);
        found.truncate(count);
    }
    found.sort_unstable_by(order);
    // A leading document has at least the score of those behind it.
    let mut behind = 0.0_f32;
    for one in found.iter_mut().rev() {
        one.score = one.score.max(behind);
        behind = one.score;
    }
    let best = found.first().map_or(0.0, |best| best.score);
    if best > 0.0 {
        found.iter_mut().for_each(|one| one.score /= best);
    }
    found
}

#[cfg(test)]
mod tests;
