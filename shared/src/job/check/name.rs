//! The job's name, which becomes part of paths and of queue names.

use crate::job::error::shown;
use crate::job::reader::Reader;

/// Reads `name`.
pub(super) fn read(reader: &mut Reader) -> String {
    if reader.given("name").is_none() {
        reader.missing("name");
        return String::new();
    }
    let Some((scalar, node)) = reader.scalar("name") else { return String::new() };
    let name = scalar.text;
    if valid(&name) {
        return name;
    }
    let message = format!("`name` must be {}", crate::job::keys::key("name").takes);
    let hint = match repaired(&name) {
        Some(better) => format!("`name: {better}` would do"),
        None => format!("`{}` has {} characters; for example `name: score-images`", shown(&name), name.chars().count()),
    };
    reader.fault("name", node.span, message, Some(hint));
    name
}

/// `^[a-z]([-a-z0-9]*[a-z0-9])?$`, 3 to 32 characters.
fn valid(name: &str) -> bool {
    (3..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The nearest valid name.
fn repaired(name: &str) -> Option<String> {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let trimmed = plain.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let short: String = trimmed.chars().take(32).collect();
    let short = short.trim_end_matches('-').to_string();
    valid(&short).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_the_original() {
        for good in ["abc", "a1b", "a--b", "a2345678901234567890123456789012"] {
            assert!(valid(good), "{good}");
        }
        for bad in ["ab", "Abc", "1bc", "ab-", "a_b", "a23456789012345678901234567890123", "", "äbc"] {
            assert!(!valid(bad), "{bad}");
        }
    }

    #[test]
    fn a_repair_is_valid_or_none() {
        assert_eq!(repaired("Score Images").as_deref(), Some("score-images"));
        assert_eq!(repaired("2nd_run-").as_deref(), Some("nd-run"));
        assert_eq!(repaired("é"), None);
    }
}
