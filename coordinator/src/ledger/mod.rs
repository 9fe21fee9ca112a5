//! The ledger: what is settled, and the proof of it (`docs/design/ledger.md`).

mod model;

pub use model::*;
