//! What the program said, without what differs from run to run: so that it can be compared with a snapshot.

use std::path::Path;

/// `text` with `<place>` for the place, `<id>` for the end of the ids of jobs called `name`, `<time>` for points in time and
/// durations, `<rate>` for rates, `<pid>` and `<host>` where a lock names them.
pub fn told(text: &str, place: &Path, name: &str) -> String {
    let text = text.replace(place.to_str().expect("UTF-8").trim_end_matches('/'), "<place>");
    let text = replace(&text, &format!("{name}-"), |rest| {
        let id = rest.bytes().take(8).filter(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()).count();
        (id == 8).then_some((8, "<id>"))
    });
    let text = replace(&text, "in use by process ", |rest| Some((rest.find(" since")?, "<pid> on <host>")));
    numbers(&text)
}

/// Gives `told` what follows each `begin`; it says how many bytes of that are replaced by what.
fn replace(text: &str, begin: &str, told: impl Fn(&str) -> Option<(usize, &'static str)>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(begin) {
        let (before, after) = rest.split_at(at + begin.len());
        out.push_str(before);
        rest = after;
        if let Some((len, instead)) = told(rest) {
            out.push_str(instead);
            rest = &rest[len..];
        }
    }
    out + rest
}

/// Points in time, durations and rates.
fn numbers(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let in_word = rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_');
        let (before, number) = rest.split_at(at);
        out.push_str(before);
        let end = number.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',')).unwrap_or(number.len());
        let stamp = number.find(|c: char| !c.is_ascii_digit() && !"-:.TZ".contains(c)).unwrap_or(number.len());
        let unit = |unit: &str| number[end..].starts_with(unit);
        let word_ends = |len: usize| !number[len..].starts_with(|c: char| c.is_alphanumeric());
        if stamp >= 20 && number[..stamp].contains('T') {
            out.push_str("<time>");
            rest = &number[stamp..];
        } else if !in_word && [" mini-batches/s", " items/s"].into_iter().any(unit) {
            out.push_str("<rate>");
            rest = &number[end..];
        } else if !in_word && unit(" s") && word_ends(end + 2) {
            out.push_str("<time>");
            rest = &number[end + 2..];
        } else {
            out.push_str(&number[..end]);
            rest = &number[end..];
        }
    }
    out + rest
}
