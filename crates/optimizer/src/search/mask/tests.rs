use super::*;

#[test]
fn what_is_shown_is_contained_and_counted_once() {
    let mut mask = Mask::none(130);
    for index in [0, 63, 64, 129, 129, 130, 1000] {
        mask.insert(index);
    }
    assert_eq!(mask.indices().collect::<Vec<_>>(), [0, 63, 64, 129]);
    assert_eq!(mask.count(), 4);
    assert!(!mask.contains(1) && !mask.contains(130) && !mask.contains(100_000));
}

#[test]
fn all_are_all_and_none_are_none() {
    assert_eq!(Mask::all(65).count(), 65);
    assert_eq!(Mask::all(65).indices().count(), 65);
    assert_eq!(Mask::none(65).indices().count(), 0);
    assert_eq!(Mask::all(0), Mask::none(0));
}
