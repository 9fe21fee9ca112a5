//! Rows in the order of the input, while the job is Finalizing (`docs/design/ordered.md`).
//!
//! First an index is made: where the rows of each mini-batch lie, by its number ([`index`]). It is a file, as a job may have more mini-batches than memory.
//! Then the places are walked over in its order ([`Order`]), and what lies there is written to a file beside the output, which is given its name when it is
//! whole (`finish.rs`): text as it is ([`pass`]), record batches as Parquet (`table/pass.rs`). Whatever dies meanwhile, what is committed is where it was, and the
//! next start makes the pass again.

mod index;
mod order;
mod pass;

pub(super) use order::{Kept, OldBy, Order};
pub use pass::OrderPass;
pub(super) use pass::{Opened, open};
