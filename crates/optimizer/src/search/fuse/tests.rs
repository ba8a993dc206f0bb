use proptest::prelude::*;

use super::*;

const ALL: f32 = 2.0;

fn indices(
    lexical: &[f32],
    similar: &[Option<f32>],
    ratio: f32,
    distance_max: f32,
    count: usize,
) -> Vec<usize> {
    fuse(lexical, &[], similar, FusionOptions { semantic_ratio: ratio, distance_max }, count)
        .into_iter()
        .map(|one| one.index)
        .collect()
}

#[test]
fn the_ratio_moves_the_order_from_words_to_meaning() {
    let (lexical, similar) = ([8.0, 1.0, 0.0], [Some(0.1), Some(0.5), Some(0.9)]);
    assert_eq!(indices(&lexical, &similar, 0.0, ALL, 9), [0, 1]);
    assert_eq!(indices(&lexical, &similar, 0.3, ALL, 9), [0, 2, 1]);
    assert_eq!(indices(&lexical, &similar, 1.0, ALL, 9), [2, 1, 0]);
}

#[test]
fn meaning_alone_matches_only_when_near() {
    let similar = [Some(0.2), Some(0.6), Some(-0.5)];
    assert_eq!(indices(&[0.0, 0.0, 1.0], &similar, 0.5, 0.5, 9), [1, 2]);
    assert_eq!(indices(&[0.0; 3], &similar, 0.5, 0.3, 9), [0_usize; 0]);
}

#[test]
fn a_document_without_a_vector_is_taken_at_its_word() {
    let mix = FusionOptions { semantic_ratio: 0.7, distance_max: ALL };
    let found = fuse(&[20.0, 5.0, 0.0], &[], &[None, Some(0.5), Some(0.3)], mix, 9);
    assert_eq!(found[0], Fused { index: 0, score: 1.0 });
    assert_eq!(found[1].index, 1);
    // Half of a full lexical score and the nearest meaning, relative to twice a full lexical score.
    assert!((found[1].score - (0.3 * 0.5 + 0.7) / 2.0).abs() < 1e-6);
}

#[test]
fn a_weak_match_in_words_does_not_outweigh_a_near_meaning() {
    let similar = [Some(0.2), Some(0.6)];
    assert_eq!(indices(&[2.0, 0.0], &similar, 0.5, ALL, 9), [1, 0]);
    assert_eq!(indices(&[20.0, 0.0], &similar, 0.5, ALL, 9), [0, 1]);
}

#[test]
fn equals_stay_in_order() {
    assert_eq!(indices(&[1.0; 5], &[], 0.5, ALL, 3), [0, 1, 2]);
    assert_eq!(indices(&[1.0; 3], &[Some(0.5); 3], 0.5, ALL, 3), [0, 1, 2]);
}

prop_compose! {
    fn scores()(pairs in proptest::collection::vec((prop_oneof![Just(0.0_f32), 0.0..9.0_f32], proptest::option::of(-1.0..=1.0_f32)), 0..60))
        -> (Vec<f32>, Vec<Option<f32>>) {
        pairs.into_iter().unzip()
    }
}

proptest! {
    #[test]
    fn as_many_come_back_as_match((lexical, similar) in scores(), ratio in 0.0..=1.0_f32, distance in 0.0..=2.0_f32, count in 0..70_usize) {
        let mix = FusionOptions { semantic_ratio: ratio, distance_max: distance };
        let matches = |(score, cosine): (&f32, &Option<f32>)| *score > 0.0 || ratio > 0.0 && cosine.is_some_and(|c| 1.0 - c <= distance);
        let matching = lexical.iter().zip(&similar).filter(|&(score, cosine)| matches((score, cosine))).count();
        let found = fuse(&lexical, &[], &similar, mix, count);
        prop_assert_eq!(found.len(), matching.min(count));
        prop_assert!(found.iter().all(|one| (0.0..=1.0001).contains(&one.score)), "{:?}", found);
        prop_assert!(found.is_sorted_by(|one, other| one.score > other.score || one.score == other.score && one.index < other.index));
        // A result with a smaller count is a prefix of a result with a larger one.
        let all = fuse(&lexical, &[], &similar, mix, usize::MAX);
        prop_assert_eq!(&all[..found.len()], &found[..]);
    }

    #[test]
    fn being_better_in_both_is_being_better((mut lexical, mut similar) in scores(), ratio in 0.0..=1.0_f32) {
        lexical.extend([1.0, 2.0]);
        similar.extend([Some(0.25), Some(0.5)]);
        let (worse, better) = (lexical.len() - 2, lexical.len() - 1);
        let order = indices(&lexical, &similar, ratio, ALL, usize::MAX);
        let at = |place| order.iter().position(|one| *one == place).unwrap();
        prop_assert!(at(better) < at(worse));
    }
}

#[test]
fn a_leading_document_is_first_and_its_score_is_the_best() {
    let mix = FusionOptions { semantic_ratio: 0.0, distance_max: 1.0 };
    let found = fuse(&[20.0, 5.0, 10.0], &[false, true, false], &[], mix, 2);
    assert_eq!(found.iter().map(|one| (one.index, one.score)).collect::<Vec<_>>(), [(1, 1.0), (0, 1.0)]);
}
