use std::time::Duration;

use super::{DurationError, format, parse};

#[test]
fn reads_what_go_reads() {
    for (text, nanos) in [
        ("0", 0),
        ("0s", 0),
        ("30s", 30_000_000_000),
        ("+5s", 5_000_000_000),
        ("1m0s", 60_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("250ms", 250_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("2us", 2_000),
        ("2µs", 2_000),
        ("2μs", 2_000),
        ("1.000000001s", 1_000_000_001),
        ("0.3333333333333333333h", 1_200_000_000_000 - 1),
    ] {
        assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
    }
}

#[test]
fn refuses_the_rest_with_the_reason() {
    for (text, error) in [
        ("", DurationError::Empty),
        ("+", DurationError::NoNumber("+".into())),
        (".s", DurationError::NoNumber(".s".into())),
        ("1.2.3s", DurationError::NoNumber("1.2.3s".into())),
        ("soon", DurationError::NoNumber("soon".into())),
        ("30", DurationError::NoUnit("30".into())),
        ("1m30", DurationError::NoUnit("1m30".into())),
        ("1d", DurationError::UnknownUnit("d".into())),
        ("1 m", DurationError::UnknownUnit(" m".into())),
        ("-1s", DurationError::Negative),
        ("9999999h", DurationError::TooLong("9999999h".into())),
        ("99999999999999999999s", DurationError::TooLong("99999999999999999999s".into())),
    ] {
        assert_eq!(parse(text), Err(error), "{text}");
    }
}

#[test]
fn writes_what_it_reads() {
    for text in
        ["0s", "1ns", "2us", "250ms", "1.5s", "30s", "1m0s", "1m30s", "1h0m0s", "1h0m1.25s", "1.234us"]
    {
        assert_eq!(parse(text).map(format).as_deref(), Ok(text));
    }
}
