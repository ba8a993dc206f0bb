use super::format_decimal;

#[test]
fn numbers_keep_four_places_and_lose_the_rest() {
    for (number, expected) in [
        (0.0, Some("0.0000")),
        (-0.0, Some("0.0000")),
        (5.0, Some("5.0000")),
        (5e0, Some("5.0000")),
        (-1.5, Some("-1.5000")),
        (-0.25, Some("-0.2500")),
        (0.000_09, Some("0.0000")),
        (-0.000_09, Some("0.0000")),
        (1.999_99, Some("1.9999")),
        (1_900_000_000_000.0, Some("1900000000000.0000")),
        (-10_000_000_000_001.0, Some("-10000000000001.0000")),
        // As in ToolHive, a scaled number that no double represents exactly is slightly off.
        (922_337_203_685_477.0, Some("922337203685476.9664")),
        (922_337_203_685_478.0, None),
        (1e300, None),
        (-1e300, None),
    ] {
        assert_eq!(format_decimal(number).as_deref(), expected, "{number}");
    }
}
