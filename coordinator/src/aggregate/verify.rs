//! `fanfold doctor --verify`: everything that the ledger and the output file promise each other, recounted.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use fanfold_shared::interval::IntervalSet;
use fanfold_shared::job::is_parquet;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::During;
use fanfold_shared::state::JobState;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::OpenError;
use super::output::{OutputFile, crc_of};
use super::recovery::{InParts, NEXT_RESULT, RESULT, file_result, is_within, recorded_output};
use super::rewrite::FileResult;
use crate::ledger::packed::Unpacker;
use crate::ledger::{GroupRow, LedgerError, LedgerReader, Totals};

/// Problems that are told one by one; more are only counted.
const TOLD: usize = 100;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The output file that was read, if the job has one.
    pub output: Option<PathBuf>,
    /// Bytes that the ledger proves.
    pub committed_len: u64,
    /// Bytes that the file has.
    pub file_len: u64,
    /// Commits that were checked.
    pub groups: u64,
    /// Settled mini-batches that were checked.
    pub mini_batches: u64,
    /// What is wrong, one sentence each; the first 100.
    pub problems: Vec<String>,
    /// How many problems there are in all.
    pub problem_count: u64,
}

impl VerifyReport {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    /// Adds a problem.
    pub fn problem(&mut self, sentence: String) {
        self.problem_count += 1;
        if self.problems.len() < TOLD {
            self.problems.push(sentence);
        }
    }

    fn compare(&mut self, what: &str, stated: u64, counted: u64) {
        if stated != counted {
            self.problem(format!("the ledger's totals say {stated} {what}, its rows say {counted}"));
        }
    }
}

/// Checks every checksum and every interval of a job, running or not. Reads only.
///
/// # Errors
/// If the ledger can't be read at all; what it says wrongly is in the report.
pub fn verify(job: &JobDir) -> Result<VerifyReport, OpenError> {
    let reader = LedgerReader::open(job)?;
    // What was committed before this moment stays where it is in the file, whatever is committed meanwhile.
    let _snapshot = reader.snapshot()?;
    let mut report = VerifyReport::default();
    for line in reader.integrity(TOLD as u32)? {
        report.problem(format!("SQLite finds in ledger `{}`: {line}", reader.path().display()));
    }
    let totals = reader.totals()?;
    let finished = reader.status()?.state == JobState::Completed;
    report.committed_len = totals.committed_len;
    let target = recorded_output(&reader, job)?;
    // What has become a Parquet file is proven by the sum over that; what was committed since lies behind it.
    let next = file_result(&reader, NEXT_RESULT)?.filter(|next| next.frames == totals.committed_len);
    let placed = match (next, &target) {
        // The name was given; that is not recorded yet.
        (Some(next), Some(target)) if !finished && next.is_at(target).during("read", target)? => Some(next),
        _ => None,
    };
    let result = placed.or(file_result(&reader, RESULT)?);
    let whole = placed.is_some() || finished && result.is_some();
    let base = result.map_or(0, |result| result.frames);
    if let (Some(result), Some(target)) = (result, &target) {
        made(&mut report, target, result, whole.then_some(totals.returned))?;
    }
    let file = match &target {
        Some(_) if whole => None,
        Some(target) => open_file(&mut report, target, finished, base)?,
        None => None,
    };
    records(&reader, &mut report, &totals, file.as_ref(), base)?;
    Ok(report)
}

/// Compares a file that was made of what is committed with what the ledger says of it, and, of a Parquet file, and its rows with those of the job once it is Completed.
fn made(report: &mut VerifyReport, target: &Path, result: FileResult, returned: Option<u64>) -> Result<(), OpenError> {
    report.output = Some(target.to_path_buf());
    let path = target.display();
    if let Some(returned) = returned {
        report.committed_len = result.len;
        report.compare("returned results", returned, result.rows);
    }
    let file = match File::open(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.problem(format!("output `{path}` is missing; {} rows are in it", result.rows));
            return Ok(());
        }
        file => file.during("open", target)?,
    };
    let len = file.metadata().during("look at", target)?.len();
    report.file_len = len;
    if len != result.len {
        report.problem(format!("output `{path}` has {len} bytes, and {} were written", result.len));
    } else if crc_of(&file, 0, len).during("read", target)? != result.crc32 {
        report.problem(format!("output `{path}` does not have the checksum with which it was written"));
    } else if is_parquet(target) {
        match SerializedFileReader::new(file).map(|reader| reader.metadata().file_metadata().num_rows()) {
            Ok(rows) if rows as u64 == result.rows => {}
            Ok(rows) => report.problem(format!("output `{path}` has {rows} rows, and {} were written", result.rows)),
            Err(error) => report.problem(format!("output `{path}` is no Parquet file: {error}")),
        }
    }
    Ok(())
}

/// Opens the output file under the name it has, and compares its length. It begins at position `base`.
fn open_file(report: &mut VerifyReport, target: &Path, finished: bool, base: u64) -> Result<Option<File>, OpenError> {
    let partial = OutputFile::partial_path(target);
    for (path, complete) in [(&partial, false), (&target.to_path_buf(), true)] {
        if finished && !complete {
            continue;
        }
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.during("open", path)?,
        };
        report.output = Some(path.clone());
        report.file_len = base + file.metadata().during("look at", path)?.len();
        let (len, committed) = (report.file_len, report.committed_len);
        if len < committed {
            report.problem(format!("output `{}` ends at byte {len}, before the committed {committed}", path.display()));
        } else if complete && len > committed {
            let extra = len - committed;
            report.problem(format!("output `{}` has {extra} bytes too many, from byte {committed} on", path.display()));
        }
        return Ok(Some(file));
    }
    report.output = Some(if finished { target.to_path_buf() } else { partial });
    if report.committed_len > 0 || finished {
        let path = report.output.clone().unwrap_or_default();
        report.problem(format!("output `{}` is missing; {} bytes are committed", path.display(), report.committed_len));
    }
    Ok(None)
}

/// Recounts everything that the ledger's rows say.
fn records(
    reader: &LedgerReader,
    report: &mut VerifyReport,
    totals: &Totals,
    file: Option<&File>,
    base: u64,
) -> Result<(), OpenError> {
    let split = reader.split();
    let (mut settled, mut in_parts) = (IntervalSet::new(), InParts::default());
    let mut counted = Totals { items: split.items(), mini_batches: split.mini_batches(), ..Totals::default() };
    let mut end = 0;
    let mut next_id = 1;
    reader.for_each_packed(|group, packed| {
        let GroupRow { id, offset, length, .. } = group;
        if id != next_id {
            report.problem(format!("commit {next_id} is missing before commit {id} at byte {offset}"));
        }
        if offset != end {
            report.problem(format!("commit {id} begins at byte {offset}, the one before it ends at {end}"));
        }
        (next_id, end) = (id + 1, offset.saturating_add(length));
        report.groups += 1;
        let (mut rows, mut records) = (group.header_len, 0);
        for record in Unpacker::new(packed, split) {
            let (record, items) = match record {
                Ok(record) => record,
                Err(error) => {
                    report.problem(format!("commit {id} at byte {offset}: record {records} can't be read: {error}"));
                    break;
                }
            };
            records += 1;
            rows = rows.saturating_add(record.rows_len);
            let count = items.end - items.start;
            if !settled.insert(items) {
                report.problem(format!("mini-batch {} is in twice, again in commit {id} at byte {offset}", record.mini_batch));
            }
            let failed = record.failed_items(count).min(count);
            counted.items_succeeded += count - failed;
            counted.items_failed += failed;
            if record.part.is_some() {
                in_parts.returned(record.mini_batch, record.is_short(count));
            } else {
                counted.mini_batches_succeeded += 1;
                counted.mini_batches_short += u64::from(record.is_short(count));
            }
            counted.surplus_results = counted.surplus_results.saturating_add(record.surplus(count));
            counted.attempts += 1;
            counted.run_us = counted.run_us.saturating_add(record.run_us);
            counted.returned = counted.returned.saturating_add(record.returned);
        }
        if (rows, records) != (length, group.mini_batches) {
            report.problem(format!(
                "commit {id} at byte {offset} has {length} bytes of {} mini-batches, its records say {rows} of {records}",
                group.mini_batches
            ));
        }
        report.mini_batches += records;
        if let Some(file) = file
            && offset >= base
            && offset.saturating_add(length) <= report.file_len
        {
            match crc_of(file, offset - base, length) {
                Ok(crc32) if crc32 == group.crc32 => {}
                Ok(_) => report.problem(format!("the {length} bytes from byte {offset} on do not have the checksum of commit {id}")),
                Err(error) => report.problem(format!("the {length} bytes from byte {offset} on can't be read: {error}")),
            }
        }
        Ok::<(), LedgerError>(())
    })?;

    reader.for_each_failed(|(mini_batch, items)| {
        report.mini_batches += 1;
        counted.mini_batches_failed += 1;
        counted.items_failed += items.end - items.start;
        let known = mini_batch < split.mini_batches() && split.mini_batch(mini_batch).1 == items;
        if !known || !settled.insert(items) {
            report
                .problem(format!("mini-batch {mini_batch} is out of tries, and settled otherwise or beyond the split"));
        }
        Ok::<(), LedgerError>(())
    })?;
    reader.for_each_failed_part(|(mini_batch, items)| {
        in_parts.failed(mini_batch);
        counted.items_failed += items.end - items.start;
        let known = mini_batch < split.mini_batches() && is_within(&items, &split.mini_batch(mini_batch).1);
        if !known || !settled.insert(items) {
            report.problem(format!(
                "a part of mini-batch {mini_batch} is out of tries, and settled otherwise or not of it"
            ));
        }
        Ok::<(), LedgerError>(())
    })?;
    let (succeeded, short, failed) = in_parts.over(split, &settled);
    report.mini_batches += failed;
    counted.mini_batches_succeeded += succeeded;
    counted.mini_batches_short += short;
    counted.mini_batches_failed += failed;
    reader.for_each_failed_attempt(|run_us| {
        counted.attempts += 1;
        counted.attempts_failed += 1;
        counted.run_us = counted.run_us.saturating_add(run_us);
        Ok::<(), LedgerError>(())
    })?;

    report.compare("committed bytes", totals.committed_len, end);
    if reader.knows_end() {
        report.compare("items", totals.items, counted.items);
        report.compare("mini-batches", totals.mini_batches, counted.mini_batches);
    }
    report.compare("succeeded items", totals.items_succeeded, counted.items_succeeded);
    report.compare("failed items", totals.items_failed, counted.items_failed);
    report.compare("settled items", totals.items_settled(), settled.len());
    report.compare("succeeded mini-batches", totals.mini_batches_succeeded, counted.mini_batches_succeeded);
    report.compare("failed mini-batches", totals.mini_batches_failed, counted.mini_batches_failed);
    report.compare("short mini-batches", totals.mini_batches_short, counted.mini_batches_short);
    report.compare("surplus results", totals.surplus_results, counted.surplus_results);
    report.compare("attempts", totals.attempts, counted.attempts);
    report.compare("failed attempts", totals.attempts_failed, counted.attempts_failed);
    report.compare("microseconds of run()", totals.run_us, counted.run_us);
    report.compare("returned results", totals.returned, counted.returned);
    Ok(())
}
