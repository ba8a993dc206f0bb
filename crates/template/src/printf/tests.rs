use super::*;

fn formatted(pattern: &str, value: Value) -> String {
    format(pattern, &[value]).unwrap()
}

#[test]
fn formats_as_go_does() {
    let number = |text| Value::Number(Number::parse(text).unwrap());
    for (pattern, value, expected) in [
        ("%+d", number("5"), "+5"),
        ("%05d", number("-42"), "-0042"),
        ("%#x", number("255"), "0xff"),
        ("%x", Value::string("hi"), "6869"),
        ("%8.3f|", number("3.14159"), "   3.142|"),
        ("%-8.3f|", number("3.14159"), "3.142   |"),
        ("%g", number("1e21"), "1e+21"),
        ("%g", number("123456.75"), "123456.75"),
        ("%.3g", number("1234.5"), "1.23e+03"),
        ("%e", number("0"), "0.000000e+00"),
        ("%c", number("9731"), "☃"),
        ("%U", number("9731"), "U+2603"),
        ("%.2s", Value::string("héllo"), "hé"),
        ("%d", number("18446744073709551616"), "18446744073709551616"),
        ("%d", number("1.5"), "%!d(float64=1.5)"),
        ("%s", Value::Missing, "%!s(<nil>)"),
        ("%v", Value::Missing, "<nil>"),
        ("%", Value::Missing, "%!(NOVERB)%!(EXTRA <nil>)"),
        ("%d %d", number("1"), "1 %!d(MISSING)"),
        ("%*d", number("3"), "%!d(MISSING)"),
        ("%*d", Value::string("x"), "%!(BADWIDTH)%!d(MISSING)"),
        ("%.*d", Value::string("x"), "%!(BADPREC)%!d(MISSING)"),
        ("%[1]d %[1]x", number("255"), "255 ff"),
        ("%[2]d", number("1"), "%!d(BADINDEX)"),
        ("%[x]d", number("1"), "%!d(BADINDEX)"),
        ("%[1]2d", number("1"), "%!d(BADINDEX)"),
        ("%[1", number("1"), "%!(NOVERB)"),
        ("%U", number("-1"), "U+FFFFFFFFFFFFFFFF"),
        ("%#U", number("9731"), "U+2603 '☃'"),
        ("%+q", Value::string("hé☃😀"), r#""h\u00e9\u2603\U0001f600""#),
        ("%+q", number("9731"), r"'\u2603'"),
        ("%q", number("39"), r"'\''"),
        ("%q", number("34"), "'\"'"),
        ("%q", number("10"), r"'\n'"),
        ("% x", Value::string("hi"), "68 69"),
        ("%# X", Value::string("hi"), "0X68 0X69"),
        ("%#x", Value::string("hi"), "0x6869"),
        ("%.1x", Value::string("hi"), "68"),
        ("% 08d", number("42"), " 0000042"),
        ("% 08.4f", number("42"), " 42.0000"),
        ("%08.0f", number("2.5"), "00000002"),
        ("%+010.3g", number("1e-7"), "+00001e-07"),
        ("%#08x", number("42"), "0x0000002a"),
        ("%#08b", number("42"), "0b00101010"),
        ("%08U", number("42"), "  U+002A"),
        ("%08d", number("-42"), "-0000042"),
        ("%-8d|", number("42"), "42      |"),
        ("%.5d", number("42"), "00042"),
        ("%08.5d", number("42"), "   00042"),
        ("%[+1]d", number("1"), "%!d(BADINDEX)"),
        ("%.3v", Value::string("hello"), "hel"),
        ("%+v", number("42"), "42"),
        ("%.0d", number("0"), ""),
    ] {
        assert_eq!(formatted(pattern, value), expected, "{pattern}");
    }
    assert!(format("%99999999999d", &[Value::integer(1)]).is_err());
    assert_eq!(format("%*d|", &[Value::integer(-6), Value::integer(42)]), Ok("42    |".to_owned()));
}
