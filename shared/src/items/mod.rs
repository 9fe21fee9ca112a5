//! The durable list of a job's items: its names are complete before the first mini-batch runs, and what is in it never changes.
//!
//! A directory with
//! - `data`: the items in blocks of at most 4096 items or 256 KiB, each item ended by the job's separator byte
//!   ([`InputType::separator`](crate::job::InputType::separator));
//! - `index`: for each block its number of items, its length and its CRC-32 (12 bytes): loaded whole, so that 10 million
//!   items cost less than 100 KB of memory;
//! - of tables `slices`: which rows of which file a mini-batch is (`slices.rs`); an entry of the list is then a file, and an item is a row;
//! - where rows of tables are gathered by the values of columns, `groups` and `origins` (`groups.rs`);
//! - `manifest.json`: the split, the sizes and the CRC-32 of the index, guarded by a CRC-32 of its own. It is written last
//!   and renamed into place: **the names are complete exactly if the manifest exists**. Slices of large tables may follow while mini-batches
//!   run (`growing.rs`): then the manifest says so, and is replaced when they are complete;
//! - `fingerprints`: size and modification time of the files, taken later and in stretches; of objects in the cloud size and version, which came
//!   with the listing and are written with the list ([`Fingerprints`]).
//!
//! Names of files are stored relative to their input's root ([`SplitInput::root`](crate::split::SplitInput::root)), as
//! bytes: any name that a file can have is fine. What is read has passed its CRC, or the error says what is damaged.
//!
//! [`ItemWriter`] makes the list ([`GrowingList`] slices that follow), [`ItemReader`] reads it, [`check`] tells what became of a file since.

mod check;
mod error;
mod fingerprint;
mod format;
mod groups;
mod growing;
mod reader;
mod slices;
#[cfg(test)]
mod tests;
mod writer;

pub use check::{Trouble, check};
pub use error::ItemsError;
pub use fingerprint::{Fingerprint, Fingerprints};
pub use format::{MAX_ITEM_BYTES, is_listed, spill_file};
pub use groups::{Group, GroupWriter, KeyValue, ORIGIN, Origin, Segment, ShapeId};
pub use growing::GrowingList;
pub use reader::ItemReader;
pub use slices::{Slice, WHOLE};
pub use writer::ItemWriter;
