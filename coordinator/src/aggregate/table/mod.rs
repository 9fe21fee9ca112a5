//! Output as one Parquet file (`docs/design/parquet-output.md`).
//!
//! While the job runs, the rows of a mini-batch are a whole Arrow IPC stream, committed as text would be: the growing file is a
//! row of such streams. What their columns are is decided when they are committed, never later, so that a mini-batch that does not
//! fit is a failed attempt ([`schema`]); and when everything is settled they are turned into Parquet ([`pass`],
//! [`source`]).

mod frame;
mod pandas;
mod pass;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod types;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

use arrow_ipc::convert::try_schema_from_flatbuffer_bytes;

pub use pass::TablePass;
pub(super) use pass::{Opened, open};
pub(super) use schema::TableSchema;

/// So many ways to say the same columns are remembered.
const KNOWN: usize = 256;

/// What the columns of the output are, and who is known to have the same.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// As everything that is committed together has them; None: nothing is.
    pub schema: Option<TableSchema>,
    /// Schemas, as frames say them, that fit and change nothing. What fits once fits for ever: types only widen.
    pub known: HashSet<Box<[u8]>>,
}

impl Columns {
    /// As the ledger has them.
    pub fn recorded(bytes: Option<Vec<u8>>) -> Result<Columns, String> {
        let schema = bytes.map(|bytes| TableSchema::from_bytes(&bytes)).transpose()?;
        Ok(Columns { schema, known: HashSet::new() })
    }

    /// Takes over what a commit has made of them.
    pub fn apply(&mut self, staged: Staged) {
        if staged.schema.is_some() {
            self.schema = staged.schema;
        }
        if self.known.len() + staged.known.len() > KNOWN {
            self.known.clear();
        }
        self.known.extend(staged.known);
    }
}

/// What a commit will make of the columns.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// The new ones; None: they stay as they are.
    pub schema: Option<TableSchema>,
    known: HashSet<Box<[u8]>>,
}

/// Why a mini-batch's rows are not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// They are no frame, or not all of it: something went wrong on the way.
    Damaged(String),
    /// The script returned other columns than the output has; for the user.
    Misfit(String),
}

impl Staged {
    /// Whether rows in memory fit the columns, which may widen.
    pub fn take(&mut self, columns: &Columns, rows: &[u8], returned: u64) -> Result<(), Refusal> {
        self.judge(columns, frame::examine(&mut Cursor::new(rows), rows.len() as u64), returned)
    }

    /// As [`Staged::take`], of rows in a file.
    pub fn take_file(&mut self, columns: &Columns, path: &Path, len: u64, returned: u64) -> Result<(), Refusal> {
        let file = File::open(path).map_err(|error| Refusal::Damaged(error.to_string()))?;
        self.judge(columns, frame::examine(&mut BufReader::new(file), len), returned)
    }

    fn judge(&mut self, columns: &Columns, frame: Result<frame::Frame, String>, returned: u64) -> Result<(), Refusal> {
        let frame = frame.map_err(Refusal::Damaged)?;
        if frame.rows != returned {
            return Err(Refusal::Damaged(format!("{returned} results were announced, {} rows came", frame.rows)));
        }
        let Some(schema) = frame.schema else { return Ok(()) };
        if columns.known.contains(&*schema) || self.known.contains(&*schema) {
            return Ok(());
        }
        let said = try_schema_from_flatbuffer_bytes(&schema).map_err(|error| Refusal::Damaged(error.to_string()))?;
        let wider = match self.schema.as_ref().or(columns.schema.as_ref()) {
            None => Some(TableSchema::first(&said).map_err(|misfit| Refusal::Misfit(misfit.to_string()))?),
            Some(present) => present.joined(&said).map_err(|misfit| Refusal::Misfit(misfit.to_string()))?,
        };
        if wider.is_some() {
            self.schema = wider;
        }
        self.known.insert(schema);
        Ok(())
    }
}
