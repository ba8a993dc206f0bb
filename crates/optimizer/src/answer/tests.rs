use super::*;

#[test]
fn savings_are_told_as_they_are() {
    let metrics = |list, returned| TokenMetrics::of(list, returned).savings_percent;
    assert_eq!(metrics(4000, 1000), 75.0);
    assert_eq!(metrics(4000, 4400), -10.0, "a result longer than the list saves less than nothing");
    assert_eq!(metrics(0, 0), 0.0);
    assert_eq!(metrics(4 * 3, 4), 66.67);
}
