//! Sizes and durations as people write them: `64MiB`, `30s`.

use std::time::Duration;

/// Parses a number of bytes: `1500`, `16KiB`, `64MiB`, `1GiB`, in any case.
pub fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] =
        [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let wanted = "a size is a number and perhaps KiB, MiB or GiB, such as 64MiB";
    let (number, unit) = split(text, &UNITS).ok_or(wanted)?;
    number.checked_mul(unit).ok_or_else(|| wanted.into())
}

/// Parses a duration: `500ms`, `30s`, `5m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let wanted = "a duration is a number and ms, s, m or h, such as 30s";
    let (number, unit) = split(text, &UNITS).ok_or(wanted)?;
    number.checked_mul(unit).map(Duration::from_millis).ok_or_else(|| wanted.into())
}

/// Parses a duration that is longer than zero.
pub fn period(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    if parsed.is_zero() { Err("it has to be longer than zero".into()) } else { Ok(parsed) }
}

/// Parses the size of a socket's buffer, which is a C int.
pub fn buffer_bytes(text: &str) -> Result<u64, String> {
    let parsed = bytes(text)?;
    match i32::try_from(parsed) {
        Ok(_) => Ok(parsed),
        Err(_) => Err("a socket's buffer is smaller than 2GiB".into()),
    }
}

/// Parses a time of TCP, which counts in seconds; Linux takes 32,767 of them (tcp(7)).
pub fn tcp_period(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    let is_whole = parsed.subsec_nanos() == 0 && (1..=32_767).contains(&parsed.as_secs());
    is_whole.then_some(parsed).ok_or_else(|| "it is whole seconds, from 1s to 32767s".into())
}

/// A whole number and what its unit stands for.
fn split(text: &str, units: &[(&str, u64)]) -> Option<(u64, u64)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    Some((number.parse().ok()?, *factor))
}

/// A number of bytes as people read it: the largest unit that leaves at least one, one decimal.
pub fn display_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut name = None;
    for unit in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        name = Some(unit);
    }
    match name {
        None => format!("{bytes} B"),
        Some(unit) => format!("{value:.1} {unit}"),
    }
}

/// A time as people read it: three digits and the unit that fits.
pub fn display_ns(ns: u64) -> String {
    let mut value = ns as f64;
    let mut name = "ns";
    for (unit, factor) in [("µs", 1e3), ("ms", 1e3), ("s", 1e3)] {
        // What would be rounded up to 1000 has the next unit already.
        if value < 999.5 {
            break;
        }
        value /= factor;
        name = unit;
    }
    let decimals = match value {
        _ if name == "ns" => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, wanted) in [
            ("0", 0),
            ("1500", 1500),
            ("1500B", 1500),
            ("16KiB", 16 << 10),
            ("64mib", 64 << 20),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "64MB", "1 KiB x", "18446744073709551615KiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, milliseconds) in
            [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1H", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "1.5s", "1d", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_sockets_are_given_is_what_the_kernel_can_be_told() {
        assert_eq!(buffer_bytes("2147483647"), Ok(2_147_483_647));
        assert!(buffer_bytes("2GiB").is_err() && buffer_bytes("4GiB").is_err());
        for (text, seconds) in [("1s", 1), ("2000ms", 2), ("9h", 32_400), ("32767s", 32_767)] {
            assert_eq!(tcp_period(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["0s", "500ms", "1500ms", "32768s", "10h"] {
            assert!(tcp_period(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(display_bytes(0), "0 B");
        assert_eq!(display_bytes(1023), "1023 B");
        assert_eq!(display_bytes(1536), "1.5 KiB");
        assert_eq!(display_bytes(3 << 40), "3.0 TiB");
        assert_eq!(display_bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn times_have_three_digits() {
        for (ns, wanted) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_499, "999 µs"),
            (999_999, "1.00 ms"),
            (123_456_789, "123 ms"),
            (75_000_000_000, "75.0 s"),
        ] {
            assert_eq!(display_ns(ns), wanted);
        }
    }
}
