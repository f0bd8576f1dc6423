//! Numbers and tables in Markdown.

use std::fmt::Write;

/// A table; all columns but the first hold numbers if `numbers`.
pub(super) fn table(head: &[&str], numbers: bool, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|---", head.join(" | "));
    for _ in 1..head.len() {
        text.push_str(if numbers { "|---:" } else { "|---" });
    }
    text.push_str("|\n");
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).expect("a string takes everything");
    }
    text
}

/// With as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..10.0 if value.fract() == 0.0 => format!("{value:.0}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 if value.fract() != 0.0 => format!("{value:.1}"),
        _ => grouped(value.round() as i64),
    }
}

/// A time that is given in microseconds.
pub(super) fn time(us: f64) -> String {
    match us {
        ..1_000.0 => format!("{us:.0} µs"),
        ..10_000.0 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.0} ms", us / 1e3),
    }
}

pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0".into(),
        ..0.1 => "< 0.1 %".into(),
        percent @ ..10.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// 12345 as `12 345`, with spaces that don't break.
fn grouped(value: i64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digit != '-' && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        let cases =
            [(0.0, "0"), (1.0, "1"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.0, "12\u{a0}345")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!([time(12.3), time(1_234.0), time(101_000.0)], ["12 µs", "1.2 ms", "101 ms"]);
        assert_eq!([percent(0.0), percent(0.0005), percent(0.0123), percent(0.32)], ["0", "< 0.1 %", "1.2 %", "32 %"]);
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let text = table(&["a", "b"], true, [vec!["x".into(), "1".into()]]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| x | 1 |\n");
    }
}
