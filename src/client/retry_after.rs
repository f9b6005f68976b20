//! When a server wants to be asked again (RFC 9110 §10.2.3).

use std::time::{Duration, SystemTime};

use crate::limits::RETRY_AFTER_MAX;

/// How long to wait by the value of a `Retry-After` field: a number of seconds, or a date of any of
/// the three formats of RFC 9110 §5.6.7, which is compared with `now`. Nothing for a date that has
/// passed, at most [`RETRY_AFTER_MAX`].
///
/// `None` if it is neither; then the client's own delay counts.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // What is all digits and yet no number is too large for one.
        value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 §5.6.7, in Unix time.
    const EXAMPLE: i64 = 784_111_777;

    /// The seconds to wait for, so many seconds before the example.
    fn wait(value: &str, seconds_before: i64) -> Option<u64> {
        let now = Duration::from_secs((EXAMPLE - seconds_before) as u64);
        retry_after(value, SystemTime::UNIX_EPOCH + now).map(|wait| wait.as_secs())
    }

    // RFC 9110 §10.2.3
    #[test]
    fn seconds_are_counted_from_now_and_have_a_bound() {
        let bound = RETRY_AFTER_MAX.as_secs();
        for (value, expected) in [
            ("0", 0),
            ("00", 0),
            ("120", 120),
            (&bound.to_string(), bound),
            (&(bound + 1).to_string(), bound),
            ("18446744073709551615", bound),
            ("18446744073709551616", bound),
            ("99999999999999999999999999999", bound),
        ] {
            assert_eq!(wait(value, 0), Some(expected), "{value}");
        }
    }

    // RFC 9110 §5.6.7, §10.2.3
    #[test]
    fn date_of_any_format_is_compared_with_now() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(wait(date, 30), Some(30), "{date}");
            assert_eq!(wait(date, 0), Some(0), "{date}");
            assert_eq!(wait(date, -30), Some(0), "{date}");
        }
        let far = "Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(wait(far, 0), Some(RETRY_AFTER_MAX.as_secs()));
    }

    #[test]
    fn what_is_neither_says_nothing() {
        for value in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "1 ",
            "1s",
            "0x10",
            "\u{0661}",
            "soon",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(wait(value, 0), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn date_is_found_again_at_any_time(
            now in 0..4_000_000_000u64,
            ahead in 0..2 * RETRY_AFTER_MAX.as_secs(),
        ) {
            let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let date = naive_date(now + ahead);
            let expected = Duration::from_secs(ahead).min(RETRY_AFTER_MAX);
            prop_assert_eq!(retry_after(&date, at(now)), Some(expected), "{}", date);
        }

        #[test]
        fn no_value_is_too_odd(value in "\\PC{0,40}") {
            let wait = retry_after(&value, SystemTime::UNIX_EPOCH);
            prop_assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
        }
    }

    /// A date by counting days from the first one on.
    fn naive_date(seconds: u64) -> String {
        const MONTHS: [(&str, u64); 12] = [
            ("Jan", 31),
            ("Feb", 28),
            ("Mar", 31),
            ("Apr", 30),
            ("May", 31),
            ("Jun", 30),
            ("Jul", 31),
            ("Aug", 31),
            ("Sep", 30),
            ("Oct", 31),
            ("Nov", 30),
            ("Dec", 31),
        ];
        let is_multiple = |year: u64, of| year.is_multiple_of(of);
        let is_leap =
            |year| is_multiple(year, 4) && (!is_multiple(year, 100) || is_multiple(year, 400));
        let (mut days, second) = (seconds / 86_400, seconds % 86_400);
        let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
        let mut year = 1970;
        while days >= 365 + u64::from(is_leap(year)) {
            days -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let mut months = MONTHS.iter();
        let month = months.find_map(|&(month, length)| {
            let length = length + u64::from(month == "Feb" && is_leap(year));
            if days < length {
                return Some(month);
            }
            days -= length;
            None
        });
        let (hour, minute) = (second / 3600, second / 60 % 60);
        format!(
            "{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{:02} GMT",
            days + 1,
            month.unwrap(),
            second % 60
        )
    }
}
