//! What the targets share: a file in memory, and what must be true of the slices of any file.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use fanfold::prepare::fuzz::{Kind, Size, Slice, slices};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A table as the splitter meets it.
pub struct Table {
    _file: File,
    path: String,
    pub kind: Kind,
}

impl Table {
    pub fn new(content: &[u8], kind: Kind) -> Table {
        let mut file = File::from(memfd_create("table", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(content).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Table { _file: file, path, kind }
    }

    /// The slices of this size with their rows, those behind `after`; None: it is refused.
    pub fn slices(&self, size: Size, after: Option<&(Slice, u64)>) -> Option<Vec<(Slice, u64)>> {
        slices(self.path.as_ref(), self.kind, size, after).ok()
    }

    /// Slices of any size cover the file from the first row to the last, in order, and are the same from wherever one begins again.
    pub fn holds_together(&self, size: Size, is_full: impl Fn(&Slice, u64) -> bool) -> Option<Vec<(Slice, u64)>> {
        let found = self.slices(size, None);
        let one_by_one = self.slices(Size::Rows(1), None);
        assert_eq!(found.is_some(), one_by_one.is_some(), "the size has nothing to do with whether it is a table");
        let (found, one_by_one) = (found?, one_by_one?);
        let (mut row, mut end) = (0, found.first().map_or(0, |(first, _)| first.part.start));
        for (number, (slice, rows)) in found.iter().enumerate() {
            assert_eq!(
                (slice.first_row, slice.part.start),
                (row, end),
                "slice {number} begins where the last one ended"
            );
            assert!(*rows > 0 && slice.part.end > slice.part.start && slice.header_len == found[0].0.header_len);
            assert!(number + 1 == found.len() || is_full(slice, *rows), "slice {number} could have been larger");
            (row, end) = (row + rows, slice.part.end);
        }
        assert_eq!(row, one_by_one.iter().map(|(_, rows)| rows).sum::<u64>(), "as many rows as by any size");
        for number in 0..found.len().min(8) {
            assert_eq!(
                self.slices(size, Some(&found[number])).as_deref(),
                Some(&found[number + 1..]),
                "behind slice {number}"
            );
        }
        Some(found)
    }
}

/// A size that `byte` says.
pub fn size(byte: u8) -> Size {
    match byte & 1 {
        0 => Size::Rows(u64::from(byte >> 1) % 9 + 1),
        _ => Size::Bytes(u64::from(byte >> 1) % 64 + 1),
    }
}
