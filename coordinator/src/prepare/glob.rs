//! Patterns: `*`, `?`, `[a-z]`, `{a,b}` within a name, `**` for any number of folders.
//!
//! A leading dot is nothing special (`*` matches `.hidden`), names are bytes, upper and lower case differ. A pattern
//! matches files; the folders that it can't reach into are not read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// A pattern below its root.
pub(super) struct Pattern {
    whole: GlobMatcher,
    /// One for each component before the first `**`; None if the pattern can't be taken apart (`{a/b,c}`).
    leading: Option<Vec<GlobMatcher>>,
    /// Whether there is a `**` behind [`Pattern::leading`].
    deep: bool,
}

impl Pattern {
    /// The pattern `text`, relative to its root.
    pub(super) fn new(text: &str, ignore_case: bool) -> Result<Pattern, globset::Error> {
        let compile = |text: &str| {
            let mut glob = GlobBuilder::new(text);
            glob.literal_separator(true).backslash_escape(true).case_insensitive(ignore_case);
            Ok(glob.build()?.compile_matcher())
        };
        let components: Vec<&str> = text.split('/').collect();
        let leading: Vec<&str> = components.iter().copied().take_while(|component| *component != "**").collect();
        let deep = leading.len() < components.len();
        let leading = leading.into_iter().map(compile).collect::<Result<_, globset::Error>>().ok();
        Ok(Pattern { whole: compile(text)?, leading, deep })
    }

    /// Whether it matches `name`, relative to the root.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        self.whole.is_match(Path::new(OsStr::from_bytes(name)))
    }

    /// Whether a folder called `name`, `depth` levels below the root (from 1), can hold a match.
    pub(super) fn enters(&self, depth: usize, name: &[u8]) -> bool {
        let Some(leading) = &self.leading else { return true };
        match leading.get(depth - 1) {
            Some(component) => {
                (self.deep || depth < leading.len()) && component.is_match(Path::new(OsStr::from_bytes(name)))
            }
            None => self.deep,
        }
    }
}

/// Takes the absolute pattern `path` apart: the folder where it begins (the longest prefix without a wildcard) and the
/// rest. None if there is no wildcard in it.
pub(super) fn take_apart(path: &str) -> Option<(PathBuf, String)> {
    let mut root = PathBuf::from("/");
    let mut components = path.split('/').filter(|component| !matches!(*component, "" | ".")).peekable();
    while let Some(literal) = components.peek().and_then(|component| literal(component)) {
        root.push(literal);
        components.next();
    }
    let rest: Vec<&str> = components.collect();
    (!rest.is_empty()).then(|| (root, rest.join("/")))
}

/// The name that `component` stands for; None if it has a wildcard.
fn literal(component: &str) -> Option<String> {
    let mut name = String::new();
    let mut characters = component.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' | '{' => return None,
            '\\' => name.push(characters.next()?),
            _ => name.push(character),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_begins_after_its_literal_prefix() {
        let apart = |path| take_apart(path).map(|(root, rest)| (root.to_str().unwrap().to_string(), rest));
        let some = |root: &str, rest: &str| Some((root.to_string(), rest.to_string()));
        assert_eq!(apart("/data/imgs/*.png"), some("/data/imgs", "*.png"));
        assert_eq!(apart("/data//./a b/**/x?/y"), some("/data/a b", "**/x?/y"));
        assert_eq!(apart("/*"), some("/", "*"));
        assert_eq!(apart(r"/data/\[1\]/[12]"), some("/data/[1]", "[12]"));
        assert_eq!(apart("/data/{a/b,c}/x"), some("/data", "{a/b,c}/x"));
        assert_eq!(apart("/data/plain"), None);
        assert_eq!(apart(r"/data/\*"), None);
    }

    #[test]
    fn wildcards_mean_what_users_of_a_shell_expect() {
        let table: [(&str, &[&str], &[&str]); 8] = [
            ("*.png", &["a.png", ".hidden.png", " .png"], &["a/b.png", "a.PNG", "a.png.txt"]),
            ("**/*.png", &["a.png", "a/b.png", "a/b/c/d.png"], &["a.jpg"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "b/a/c"]),
            ("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["z", "a/zz"]),
            ("img-[0-9].{png,jpg}", &["img-1.png", "img-9.jpg"], &["img-x.png", "img-1.gif", "img-10.png"]),
            ("?.x", &["a.x"], &["ab.x", ".x"]),
            ("{a/b,c}/x", &["a/b/x", "c/x"], &["a/x", "b/x"]),
            ("[!a]*", &["b", "ba"], &["a", "ab", "b/a"]),
        ];
        for (pattern, yes, no) in table {
            let compiled = Pattern::new(pattern, false).unwrap();
            for (names, expected) in [(yes, true), (no, false)] {
                for name in names {
                    assert_eq!(compiled.matches(name.as_bytes()), expected, "`{pattern}` and `{name}`");
                }
            }
            // Whatever matches must be reachable.
            for name in yes {
                let folders: Vec<&str> = name.split('/').collect();
                for (at, folder) in folders[..folders.len() - 1].iter().enumerate() {
                    assert!(compiled.enters(at + 1, folder.as_bytes()), "`{pattern}` enters `{folder}` of `{name}`");
                }
            }
        }
    }

    #[test]
    fn folders_that_hold_no_match_are_not_entered() {
        let flat = Pattern::new("*.png", false).unwrap();
        assert!(!flat.enters(1, b"sub"));
        let two = Pattern::new("20*/raw/*.png", false).unwrap();
        assert!(two.enters(1, b"2024") && !two.enters(1, b"1999"));
        assert!(two.enters(2, b"raw") && !two.enters(2, b"cooked") && !two.enters(3, b"deep"));
        let deep = Pattern::new("20*/**/*.png", false).unwrap();
        assert!(deep.enters(1, b"2024") && !deep.enters(1, b"1999") && deep.enters(5, b"anything"));
    }

    #[test]
    fn a_name_need_not_be_utf8() {
        assert!(Pattern::new("*.bin", false).unwrap().matches(b"\xff\xfe.bin"));
        assert!(Pattern::new("*.BIN", true).unwrap().matches(b"\xff\xfe.bin"));
        assert!(Pattern::new("[", false).is_err());
    }
}
