//! Many files in one word, whatever the order in which they are met.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use blake3::Hasher;
use fanfold_shared::items::Fingerprint;

/// The sum of the hashes of its parts: a walk needs no sorting, and a million files no memory. It recognises what is the same; nobody's
/// malice is guarded against.
#[derive(Debug, Default)]
pub(super) struct Sum {
    count: u64,
    words: [u64; 4],
}

impl Sum {
    /// A part, with the length of each piece: no two parts give the same bytes.
    pub(super) fn add(&mut self, pieces: &[&[u8]]) {
        let mut hasher = Hasher::new();
        for piece in pieces {
            hasher.update(&(piece.len() as u64).to_le_bytes());
            hasher.update(piece);
        }
        let hash = hasher.finalize();
        let (words, _) = hash.as_bytes().as_chunks::<8>();
        for (sum, word) in self.words.iter_mut().zip(words) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
        self.count += 1;
    }

    /// A file of the input called `input`.
    pub(super) fn file(&mut self, input: &str, root: &Path, name: &[u8], found: Fingerprint) {
        let known = match found {
            // In microseconds: two mounts of one file system need not agree on what is finer.
            Fingerprint::File { size, mtime_ns } => format!("{size} {}", mtime_ns.div_euclid(1000)),
            Fingerprint::Unknown | Fingerprint::NotTaken => "unknown".into(),
        };
        self.add(&[b"file", input.as_bytes(), root.as_os_str().as_bytes(), name, known.as_bytes()]);
    }

    /// A line of the input with this number; `at` is its place among all lines.
    pub(super) fn line(&mut self, input: usize, at: u64, line: &[u8]) {
        self.add(&[b"line", &input.to_le_bytes(), &at.to_le_bytes(), line]);
    }

    /// How many parts there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// All of it as one word.
    pub(super) fn word(&self) -> String {
        let [a, b, c, d] = self.words;
        format!("{}-{a:016x}{b:016x}{c:016x}{d:016x}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(files: &[(&str, u64)]) -> String {
        let mut sum = Sum::default();
        for (name, size) in files {
            sum.file("a", Path::new("/in"), name.as_bytes(), Fingerprint::File { size: *size, mtime_ns: 1 });
        }
        sum.word()
    }

    #[test]
    fn the_order_counts_for_lines_and_not_for_files() {
        assert_eq!(word(&[("x", 1), ("y", 2)]), word(&[("y", 2), ("x", 1)]));
        assert_ne!(word(&[("x", 1), ("y", 2)]), word(&[("x", 2), ("y", 1)]));
        assert_ne!(word(&[("x", 1)]), word(&[("x", 1), ("x", 1)]));
        let lines = |lines: [&str; 2]| {
            let mut sum = Sum::default();
            lines.iter().enumerate().for_each(|(at, line)| sum.line(0, at as u64, line.as_bytes()));
            sum.word()
        };
        assert_ne!(lines(["x", "y"]), lines(["y", "x"]));
    }

    #[test]
    fn what_mounts_disagree_on_does_not_count() {
        let at = |mtime_ns| {
            let mut sum = Sum::default();
            sum.file("a", Path::new("/in"), b"x", Fingerprint::File { size: 1, mtime_ns });
            sum.word()
        };
        assert_eq!(at(5_000), at(5_999));
        assert_ne!(at(5_000), at(6_000));
    }
}
