//! Durations as Go writes them: `90s`, `1m30s`, `1.5h`.
//!
//! Source: Go `time.ParseDuration`.

/// Nanoseconds of a Go duration; `None` if the text is not one.
pub(super) fn nanoseconds(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (part, after) = part(rest)?;
        total = total.checked_add(part).filter(|total| *total <= i128::from(i64::MAX))?;
        rest = after;
    }
    Some(if negative { -total } else { total })
}

/// One number with its unit, in nanoseconds, and what follows it.
fn part(text: &str) -> Option<(i128, &str)> {
    let end = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))?;
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let end = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
    // More digits than these are below a nanosecond, whatever the unit.
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some((whole * unit + fraction * unit / scale, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("90s", Some(90_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("-3s", Some(-3_000_000_000)),
            ("1us", Some(1_000)),
            ("1µs", Some(1_000)),
            ("", None),
            ("-", None),
            ("90", None),
            ("s", None),
            ("1.2.3s", None),
            (".s", None),
            ("3 s", None),
            ("3d", None),
            ("99999999999h", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text:?}");
        }
    }
}
