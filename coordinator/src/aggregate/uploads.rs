//! What the ledger is told of the upload: the aggregate is its only writer.

use super::{Aggregate, CommitError};
use crate::ledger::There;

impl Aggregate {
    /// Records that parts of `name` are on their way, or (None) that none are any more.
    ///
    /// # Errors
    /// As [`Aggregate::set_state`].
    pub fn uploading(&mut self, name: &str, upload_id: Option<&str>) -> Result<(), CommitError> {
        self.usable()?;
        let recorded = self.ledger.uploading(name, upload_id);
        self.recorded(recorded)
    }

    /// Records that the object of `name` is there, whole.
    ///
    /// # Errors
    /// As [`Aggregate::set_state`].
    pub fn uploaded(&mut self, name: &str, there: &There) -> Result<(), CommitError> {
        self.usable()?;
        let recorded = self.ledger.uploaded(name, there);
        self.recorded(recorded)
    }
}
