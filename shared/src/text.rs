//! Text for logs, reports and terminals: numbers without the formatting machinery, and users' text made harmless.

use std::borrow::Cow;

/// Appends `value` in decimal. Several times faster than `write!`, which the lines per mini-batch need.
pub fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the last `width` (at most 20) decimal digits of `value`, with leading zeros.
pub fn push_padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Appends microseconds as seconds: `0.000123`.
pub fn push_seconds(out: &mut Vec<u8>, us: u64) {
    push_decimal(out, us / 1_000_000);
    out.push(b'.');
    push_padded(out, us % 1_000_000, 6);
}

/// Whether a character could move the cursor, colour the screen or turn the reading direction.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with control characters (but newline and tab) and changes of direction shown as escapes (`\x1b`, `\u202e`), so
/// that it can't disturb a terminal or a log. A carriage return before a newline is dropped.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => out.push_str("\\r"),
            c if is_harmful(c) && (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_harmful(c) => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// [`harmless`] on one line of at most `max` characters: newlines are shown as `\n`, what is too long ends in `…`.
pub fn one_line(text: &str, max: usize) -> Cow<'_, str> {
    let text = harmless(text.trim_end());
    let too_long = text.char_indices().nth(max).is_some();
    if !too_long && !text.contains('\n') {
        return text;
    }
    let mut out = String::new();
    for c in text.chars().take(if too_long { max.saturating_sub(1) } else { max }) {
        match c {
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    if too_long {
        out.push('…');
    }
    Cow::Owned(out)
}

/// Appends a field of a CSV, quoted if it must be (RFC 4180).
pub fn push_csv(out: &mut Vec<u8>, text: &str) {
    if !text.contains([',', '"', '\n', '\r']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// `text` cut at a character boundary so that it has at most `max` bytes.
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// `1,234,567`: a count for people.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 item`, `1,234 items`.
pub fn counted(value: u64, noun: &str) -> String {
    let ending = match noun {
        _ if value == 1 => "",
        _ if noun.ends_with("ch") || noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", grouped(value))
}

/// `512 B`, `1.4 KiB`, `20.0 GiB`: a size for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A rate for people: three digits and no more (`0.25`, `3.1`, `42`, `12,300`).
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if r < 0.995 => format!("{r:.2}"),
        r if r < 9.95 => format!("{r:.1}"),
        r if r < 999.5 => format!("{r:.0}"),
        r => {
            let step = 10f64.powi(r.log10() as i32 - 2);
            grouped(((r / step).round() * step) as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_what_the_library_writes(value: u64, small in 0u64..1_000_000) {
            let mut out = Vec::new();
            push_decimal(&mut out, value);
            out.push(b' ');
            push_padded(&mut out, small, 6);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{value} {small:06}"));
        }

        #[test]
        fn nothing_harmful_is_left(text: String, max in 1usize..40) {
            prop_assert!(!harmless(&text).contains(is_harmful));
            let line = one_line(&text, max);
            prop_assert!(!line.contains(is_harmful) && !line.contains('\n'));
        }
    }

    #[test]
    fn escapes_are_shown_and_plain_text_is_left_alone() {
        assert_eq!(harmless("\x1b[2Jred\x07\r\n\u{9b}0m\u{202e}\tok\rx"), "\\x1b[2Jred\\x07\n\\x9b0m\\u202e\tok\\rx");
        assert!(matches!(harmless("żółw\tok\n"), Cow::Borrowed(_)));
        assert_eq!(one_line("a\nb\n", 10), "a\\nb");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("abcd", 4), "abcd");
        assert_eq!(cut("żó", 3), "ż");
    }

    #[test]
    fn figures_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [counted(1, "item"), counted(2000, "mini-batch"), counted(0, "process")],
            ["1 item", "2,000 mini-batches", "0 processes"]
        );
        assert_eq!([512, 1024, 1_048_575, 21_474_836_480].map(size), ["512 B", "1.0 KiB", "1.0 MiB", "20.0 GiB"]);
        assert_eq!(
            [0.0, 0.254, 0.999, 3.12, 42.4, 999.6, 12_345.0].map(rate),
            ["0.00", "0.25", "1.0", "3.1", "42", "1,000", "12,300"]
        );
        let mut out = Vec::new();
        push_seconds(&mut out, 61_000_123);
        assert_eq!(out, b"61.000123");
    }
}
