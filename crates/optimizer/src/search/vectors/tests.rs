use proptest::prelude::*;

use super::*;

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

fn packed(vector: &[f32]) -> Option<Arc<PackedVector>> {
    Some(Arc::new(PackedVector::from_vector(vector)))
}

proptest! {
    #[test]
    fn packing_keeps_angles(
        one in proptest::collection::vec(-1.0_f32..1.0, 64),
        other in proptest::collection::vec(-1.0_f32..1.0, 64),
    ) {
        let vectors = Vectors::build(&[packed(&one), packed(&other)]);
        let similar = vectors.similarities(&one, &Mask::all(2));
        prop_assert!((similar[0].unwrap() - 1.0).abs() < 0.002);
        prop_assert!((similar[1].unwrap() - cosine(&one, &other)).abs() < 0.02);
    }

    #[test]
    fn the_longest_vector_of_the_largest_lanes_does_not_overflow(sign in prop_oneof![Just(1.0_f32), Just(-1.0)]) {
        let long = vec![sign; DIMENSION_MAX];
        let vectors = Vectors::build(&[packed(&vec![1.0; DIMENSION_MAX])]);
        prop_assert!((vectors.similarities(&long, &Mask::all(1))[0].unwrap() - sign).abs() < 0.001);
    }
}

#[test]
fn hidden_and_missing_vectors_have_no_cosine() {
    let vectors = Vectors::build(&[
        packed(&[1.0, 0.0]),
        None,
        packed(&[0.0, 1.0]),
        packed(&[0.0, 0.0]),
        packed(&[1.0]),
    ]);
    let mut mask = Mask::all(5);
    assert_eq!(vectors.similarities(&[1.0, 0.0], &mask), [Some(1.0), None, Some(0.0), None, None]);
    mask = Mask::none(5);
    mask.insert(2);
    assert_eq!(vectors.similarities(&[0.0, 2.0], &mask), [None, None, Some(1.0), None, None]);
}

#[test]
fn what_cannot_be_compared_gives_nothing() {
    let vectors = Vectors::build(&[packed(&[1.0, 0.0])]);
    assert_eq!(vectors.similarities(&[1.0, 0.0, 0.0], &Mask::all(1)), []);
    assert_eq!(vectors.similarities(&[0.0, 0.0], &Mask::all(1)), []);
    assert_eq!(vectors.similarities(&[f32::NAN, f32::INFINITY], &Mask::all(1)), []);
    assert_eq!(Vectors::build(&[None]).similarities(&[1.0], &Mask::all(1)), []);
    assert_eq!(Vectors::build(&[packed(&vec![1.0; DIMENSION_MAX + 1])]).bytes(), 0);
}
