//! The start: what the ledger proves, and a file that holds exactly that.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fanfold_shared::interval::IntervalSet;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::During;
use fanfold_shared::split::Split;
use fanfold_shared::state::JobState;

use super::bisect::Tried;
use super::output::{OutputFile, crc_of};
use super::rewrite::FileResult;
use super::table::Columns;
use super::{Aggregate, AggregateConfig, OpenError, Output, Recovered};
use crate::ledger::{FailedAttempt, Identity, Ledger, LedgerError, LedgerReader, Suspect, Totals, network_file_system};

/// So many commits at the end of the file are compared with their checksums at each start; `doctor --verify` compares all.
const CHECKED_GROUPS: u32 = 8;

impl Aggregate {
    /// Opens the ledger and the output file of a job, or makes them, and brings the file to what the ledger proves.
    ///
    /// # Errors
    /// See [`OpenError`]. Only bytes behind the committed length are ever removed.
    pub fn open(config: AggregateConfig) -> Result<(Aggregate, Recovered), OpenError> {
        let AggregateConfig { job, lock, job_id, fingerprint, split, output, table, ordered, header, tries } = config;
        let identity = Identity { job_id, fingerprint, split };
        let mut ledger = Ledger::open(&job, lock, &identity)?;
        let split = identity.split;
        let mut totals = ledger.reader().totals()?;
        // The list may have grown since the last commit.
        (totals.items, totals.mini_batches) = (split.items(), split.mini_batches());
        let status = ledger.reader().status()?;
        let settled = settled(ledger.reader(), &totals)?;

        let table = match table && output.is_some() {
            true => Some(columns(ledger.reader())?),
            false => None,
        };

        let mut cut = 0;
        let mut output_file_system = None;
        let output = match output {
            None if recorded_output(ledger.reader(), &job)?.is_none() => Output::None,
            None => {
                let recorded = recorded_output(ledger.reader(), &job)?.unwrap_or_default();
                return Err(OpenError::OutputMoved { recorded, wanted: PathBuf::from("summary_only") });
            }
            Some(target) => {
                let (output, tail) =
                    open_output(&mut ledger, &job, &target, &totals, status.state, table.is_some() || ordered)?;
                cut = tail;
                if let Output::Partial(file) = &output {
                    output_file_system =
                        network_file_system(file.path()).during("look at the file system of", file.path())?;
                }
                output
            }
        };

        let header_line = match &output {
            Output::Partial(file) if header => header_line(ledger.reader(), file.path())?,
            _ => None,
        };
        let tried = tried(ledger.reader(), &settled)?;
        let suspects: BTreeMap<u64, u32> =
            ledger.reader().suspects()?.into_iter().map(|suspect| (suspect.mini_batch, suspect.host_deaths)).collect();
        let recovered = Recovered {
            suspects: suspects.iter().map(|(&mini_batch, &host_deaths)| Suspect { mini_batch, host_deaths }).collect(),
            next_process: ledger.next_numbers().map(|(node, number)| (node.clone(), number)).collect(),
            cut,
            output_file_system,
            status,
        };
        let aggregate = Aggregate {
            state: recovered.status.state,
            mini_batches: split.mini_batches(),
            tried,
            ledger,
            output,
            job,
            split,
            header,
            header_line,
            table,
            ordered,
            written: None,
            tries,
            settled,
            totals,
            suspects,
            stopped: false,
        };
        Ok((aggregate, recovered))
    }
}

/// The header line that the output at `path` begins with, as far as the ledger says.
fn header_line(reader: &LedgerReader, path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    let mut len = 0;
    reader.for_each_group(|group| {
        len += group.header_len;
        Ok::<(), LedgerError>(())
    })?;
    if len == 0 {
        return Ok(None);
    }
    let mut line = Vec::new();
    File::open(path).and_then(|file| file.take(len).read_to_end(&mut line)).during("read", path)?;
    Ok(Some(line))
}

/// What was tried of each unsettled mini-batch.
pub(super) fn tried(reader: &LedgerReader, settled: &IntervalSet) -> Result<HashMap<u64, Tried>, LedgerError> {
    let split = reader.split();
    let mini_batches = split.mini_batches();
    let mut all: HashMap<u64, Tried> = HashMap::new();
    let open = |mini_batch: u64| {
        let whole = (mini_batch < mini_batches).then(|| split.mini_batch(mini_batch).1);
        whole.filter(|whole| !settled.contains(whole))
    };
    reader.for_each_spent(|FailedAttempt { mini_batch, items, attempt }| {
        if let Some(whole) = open(mini_batch) {
            all.entry(mini_batch).or_default().failed(&items, &whole, attempt);
        }
        Ok::<(), LedgerError>(())
    })?;
    reader.for_each_record(|record, items| {
        if record.part.is_some() && open(record.mini_batch).is_some() {
            let short = record.is_short(items.end - items.start);
            all.entry(record.mini_batch).or_default().returned(record.attempt, short);
        }
        Ok::<(), LedgerError>(())
    })?;
    reader.for_each_failed_part(|(mini_batch, _)| {
        if open(mini_batch).is_some() {
            all.entry(mini_batch).or_default().short = true;
        }
        Ok::<(), LedgerError>(())
    })?;
    Ok(all)
}

/// Mini-batches that are settled in parts, and what is known of these.
#[derive(Debug, Default)]
pub(super) struct InParts {
    all: HashMap<u64, (bool, bool)>,
}

impl InParts {
    /// A part returned; `short`: not something for each item.
    pub fn returned(&mut self, mini_batch: u64, short: bool) {
        let (returned, any_short) = self.all.entry(mini_batch).or_default();
        (*returned, *any_short) = (true, *any_short | short);
    }

    /// A part is out of tries.
    pub fn failed(&mut self, mini_batch: u64) {
        self.all.entry(mini_batch).or_default().1 = true;
    }

    /// How many of them are settled to their end: succeeded, of these short, failed.
    pub fn over(&self, split: &Split, settled: &IntervalSet) -> (u64, u64, u64) {
        let over = self.all.iter().filter(|(mini_batch, _)| settled.contains(&split.mini_batch(**mini_batch).1));
        over.fold((0, 0, 0), |(succeeded, short, failed), (_, part)| match part {
            (true, any_short) => (succeeded + 1, short + u64::from(*any_short), failed),
            (false, _) => (succeeded, short, failed + 1),
        })
    }
}

/// Every settled item, from the packed records and from what is out of tries. Refuses a ledger that contradicts itself.
pub(super) fn settled(reader: &LedgerReader, totals: &Totals) -> Result<IntervalSet, LedgerError> {
    let contradiction = |what: String| LedgerError::Damaged { path: reader.path().to_path_buf(), what, source: None };
    let mut settled = IntervalSet::new();
    let mut in_parts = InParts::default();
    let (mut succeeded, mut failed, mut rows) = (0, 0, 0u64);
    reader.for_each_group(|group| {
        if group.offset != rows {
            return Err(contradiction(format!("commit {} begins at {}, not at {rows}", group.id, group.offset)));
        }
        rows += group.length;
        Ok(())
    })?;
    reader.for_each_record(|record, items| {
        match record.part {
            Some(_) => in_parts.returned(record.mini_batch, false),
            None => succeeded += 1,
        }
        if settled.insert(items) {
            Ok(())
        } else {
            Err(contradiction(format!("mini-batch {} is in twice", record.mini_batch)))
        }
    })?;
    let split = reader.split();
    let mini_batches = split.mini_batches();
    reader.for_each_failed(|(mini_batch, items)| {
        failed += 1;
        if mini_batch < mini_batches && split.mini_batch(mini_batch).1 == items && settled.insert(items) {
            Ok(())
        } else {
            Err(contradiction(format!("mini-batch {mini_batch} is failed and settled otherwise")))
        }
    })?;
    reader.for_each_failed_part(|(mini_batch, items)| {
        in_parts.failed(mini_batch);
        if mini_batch < mini_batches && is_within(&items, &split.mini_batch(mini_batch).1) && settled.insert(items) {
            Ok(())
        } else {
            Err(contradiction(format!("a part of mini-batch {mini_batch} is failed and settled otherwise")))
        }
    })?;
    let (of_parts, _, failed_in_parts) = in_parts.over(split, &settled);
    (succeeded, failed) = (succeeded + of_parts, failed + failed_in_parts);
    let counted = (rows, succeeded, failed, settled.len());
    let stated =
        (totals.committed_len, totals.mini_batches_succeeded, totals.mini_batches_failed, totals.items_settled());
    if counted != stated {
        return Err(contradiction(format!(
            "bytes, mini-batches succeeded and failed, and items settled are {counted:?} by its commits, {stated:?} by its totals"
        )));
    }
    Ok(settled)
}

/// Whether items are some of these.
pub(super) fn is_within(items: &Range<u64>, whole: &Range<u64>) -> bool {
    whole.start <= items.start && items.start < items.end && items.end <= whole.end
}

/// In the ledger: the columns of a table; the Parquet file that has the output's name, and the one that is about to get it.
const COLUMNS: &str = "columns";
pub(super) const RESULT: &str = "result";
pub(super) const NEXT_RESULT: &str = "next_result";

/// What the ledger says under `key` of a Parquet file.
pub(super) fn file_result(reader: &LedgerReader, key: &str) -> Result<Option<FileResult>, LedgerError> {
    let recorded: Option<String> = reader.meta(key)?;
    let result = recorded.map(|text| serde_json::from_str(&text)).transpose();
    result.map_err(|error| damaged(reader, format!("`{key}` can't be read: {error}")))
}

fn columns(reader: &LedgerReader) -> Result<Columns, LedgerError> {
    let recorded = Columns::recorded(reader.meta(COLUMNS)?);
    recorded.map_err(|error| damaged(reader, format!("the columns of the output can't be read: {error}")))
}

fn damaged(reader: &LedgerReader, what: String) -> LedgerError {
    LedgerError::Damaged { path: reader.path().to_path_buf(), what, source: None }
}

/// Opens or makes the output file. Returns it and the number of bytes that were cut off.
fn open_output(
    ledger: &mut Ledger,
    job: &JobDir,
    target: &Path,
    totals: &Totals,
    state: JobState,
    rewritten: bool,
) -> Result<(Output, u64), OpenError> {
    if let Some(recorded) = recorded_output(ledger.reader(), job)? {
        if recorded != target {
            return Err(OpenError::OutputMoved { recorded, wanted: target.to_path_buf() });
        }
    } else {
        if exists(target)? {
            return Err(OpenError::OutputExists { path: target.to_path_buf() });
        }
        let file = OutputFile::create(target)?;
        // From here on a file under this name is ours. A start that dies before it finds an empty one.
        let recorded = target.strip_prefix(job.root()).unwrap_or(target);
        ledger.set_meta(&[("output", &recorded.as_os_str().as_bytes())])?;
        return Ok((Output::Partial(file), 0));
    }

    if state == JobState::Completed {
        return Ok((Output::Finished, 0));
    }
    let committed = totals.committed_len;
    // Only then may somebody have begun to give the file its final name.
    let all_settled = ledger.reader().split().is_complete() && totals.mini_batches_remaining() == 0;
    let ending = state == JobState::Finalizing && all_settled;
    let replaces = ledger.reader().meta::<i64>("replaces")? == Some(1);
    let base = file_result(ledger.reader(), RESULT)?.map_or(0, |result| result.frames);
    if ending
        && let Some(next) = file_result(ledger.reader(), NEXT_RESULT)?
        && next.frames == committed
        && next.is_at(target).during("read", target)?
    {
        // The name was given, and the end died before it was recorded. What it was made of may be there still.
        return Ok((Output::Finished, 0));
    }
    let Some(file) = OutputFile::open(target, base)? else {
        let found = match fs::symlink_metadata(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            metadata => Some(metadata.during("look at", target)?.len()),
        };
        return match found {
            // Died between the rename and the end: the rename is taken as done.
            Some(len) if ending && !rewritten && len == committed => {
                check_tail(ledger.reader(), target, 0)?;
                Ok((Output::Finished, 0))
            }
            Some(_) if !replaces => Err(OpenError::OutputExists { path: target.to_path_buf() }),
            None if committed == 0 && !replaces => Ok((Output::Partial(OutputFile::create(target)?), 0)),
            _ => Err(OpenError::OutputShort { path: OutputFile::partial_path(target), found: 0, committed }),
        };
    };
    if !replaces && exists(target)? {
        // A file system without exclusive rename gave the final name by a link, and the start died before the old name went.
        let same = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).during("look at", path);
        if rewritten || !ending || same(target)? != same(file.path())? {
            return Err(OpenError::OutputExists { path: target.to_path_buf() });
        }
        check_tail(ledger.reader(), target, 0)?;
        fs::remove_file(file.path()).during("remove", file.path())?;
        return Ok((Output::Finished, 0));
    }
    let path = file.path().to_path_buf();
    let found = file.len().during("look at", &path)?;
    if found < committed {
        return Err(OpenError::OutputShort { path, found, committed });
    }
    check_tail(ledger.reader(), &path, base)?;
    if found > committed {
        file.cut(committed).and_then(|()| file.sync_all()).during("cut", &path)?;
    }
    Ok((Output::Partial(file), found - committed))
}

/// Compares the last commits with their checksums, as far as they lie in the file, which begins at position `base`.
pub(super) fn check_tail(reader: &LedgerReader, path: &Path, base: u64) -> Result<(), OpenError> {
    let groups = reader.last_groups(CHECKED_GROUPS)?;
    let file = File::open(path).during("open", path)?;
    for group in groups.into_iter().filter(|group| group.offset >= base) {
        if crc_of(&file, group.offset - base, group.length).during("read", path)? != group.crc32 {
            let path = path.to_path_buf();
            return Err(OpenError::OutputDamaged { path, offset: group.offset, length: group.length });
        }
    }
    Ok(())
}

/// The output file's final name, as recorded; None for `summary_only` and before it was made.
pub(super) fn recorded_output(reader: &LedgerReader, job: &JobDir) -> Result<Option<PathBuf>, LedgerError> {
    let recorded: Option<Vec<u8>> = reader.meta("output")?;
    // A relative path moves with the job directory; joining an absolute one leaves it as it is.
    Ok(recorded.map(|bytes| job.root().join(PathBuf::from(std::ffi::OsString::from_vec(bytes)))))
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        metadata => Ok(metadata.map(|_| true).during("look at", path)?),
    }
}
