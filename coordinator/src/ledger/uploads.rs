//! What was uploaded of the output, and what is on its way (`docs/design/upload.md`).
//!
//! The table comes with the first upload: ledgers of other jobs stay as they were, and older programs read this one, too.

use fanfold_store::Version;
use rusqlite::{Row, params};

use super::schema::{sql, unsigned};
use super::writer::transaction;
use super::{Ledger, LedgerError, LedgerReader};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS uploads (
    name TEXT PRIMARY KEY,
    size INTEGER,
    sum TEXT,
    etag TEXT,
    generation TEXT,
    upload_id TEXT
) STRICT, WITHOUT ROWID";

/// A file of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    /// Its path below the output directory, and below the address.
    pub name: String,
    /// The object that was last seen to be there, whole; None: none yet.
    pub there: Option<There>,
    /// What the service calls the upload in parts that is under way, or was when the program died.
    pub upload_id: Option<String>,
}

/// An object, as it was when it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, in hexadecimal digits.
    pub sum: String,
    /// Its version.
    pub version: Version,
}

impl LedgerReader {
    /// What is known of the upload of `name`.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub fn upload(&self, name: &str) -> Result<Option<UploadRow>, LedgerError> {
        let mut found = None;
        self.each_upload(" WHERE name = ?1", [name], &mut |row| {
            found = Some(row);
            Ok::<(), LedgerError>(())
        })?;
        Ok(found)
    }

    /// Calls `each` for every file, in the order of their names.
    ///
    /// # Errors
    /// The ledger can't be read, or those of `each`.
    pub fn for_each_upload<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut(UploadRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_upload(" ORDER BY name", [], &mut each)
    }

    fn each_upload<E: From<LedgerError>>(
        &self,
        which: &str,
        parameters: impl rusqlite::Params,
        each: &mut impl FnMut(UploadRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let tables: i64 =
            self.collect("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'uploads'", [], |row| {
                row.get(0)
            })?[0];
        if tables == 0 {
            return Ok(());
        }
        let query = format!("SELECT name, size, sum, etag, generation, upload_id FROM uploads{which}");
        self.for_each_row(&query, parameters, parse, each)
    }
}

fn parse(row: &Row<'_>) -> rusqlite::Result<UploadRow> {
    let there = match row.get::<_, Option<String>>(2)? {
        None => None,
        Some(sum) => Some(There {
            size: unsigned(row, 1)?,
            sum,
            version: Version { etag: row.get(3)?, generation: row.get(4)? },
        }),
    };
    Ok(UploadRow { name: row.get(0)?, there, upload_id: row.get(5)? })
}

impl Ledger {
    /// Records that parts of `name` are on their way, or (None) that none are any more.
    pub(crate) fn uploading(&mut self, name: &str, upload_id: Option<&str>) -> Result<(), LedgerError> {
        transaction(&self.reader.connection, &self.reader.path, |connection| {
            connection.execute(TABLE, [])?;
            connection
                .prepare_cached(
                    "INSERT INTO uploads (name, upload_id) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET upload_id = excluded.upload_id",
                )?
                .execute(params![name, upload_id])
                .map(drop)
        })
    }

    /// Records that the object of `name` is there, whole.
    pub(crate) fn uploaded(&mut self, name: &str, there: &There) -> Result<(), LedgerError> {
        transaction(&self.reader.connection, &self.reader.path, |connection| {
            connection.execute(TABLE, [])?;
            connection
                .prepare_cached("INSERT OR REPLACE INTO uploads VALUES (?1, ?2, ?3, ?4, ?5, NULL)")?
                .execute(params![name, sql(there.size), there.sum, there.version.etag, there.version.generation])
                .map(drop)
        })
    }
}
