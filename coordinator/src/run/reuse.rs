//! A finished job stands in for one that would be the same (`allow_reuse`).
//!
//! The same is what has the same name, settings, script, environment, side inputs, models and inputs. Each is one word, a hash; what they
//! cover is told to users in `docs/reuse.md`. Two moments make a result that may stand in:
//!
//! - when a job begins to run, what it is made of is written to `.fanfold/reuse.json`; whenever it is taken up, and at its end, it is compared.
//!   A job that changed on its way has a result of two kinds, which stands in for nothing;
//! - when it is Completed, the inputs **as it saw them** (the list and the fingerprints, not a second look) and the size and time of the
//!   output file are added. So a record that has them is one of a Completed job, and nobody has to open its ledger.
//!
//! Only a result without a failed item or mini-batch may stand in: what failed may succeed another time, and whoever runs the job again may
//! want just that. Nor may `summary_only`, whose output is the script's own: nobody knows what it was. Everything that goes wrong here costs a
//! later run its shortcut, and no job.

mod sum;

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fanfold_shared::ids::ScriptNumber;
use fanfold_shared::items::{Fingerprint, Fingerprints, ItemReader, ItemsError, is_listed};
use fanfold_shared::job::{self, InputType, JobRecord, JobSpec, OutputAction};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, ExitCode, Failure, IoError, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::uri::Uri;
use fanfold_shared::{clock, durable};
use fanfold_worker::environment;
use serde::{Deserialize, Serialize};

use super::observer::Audience;
use super::places::{output_dir, output_file, output_uri};
use super::{Orders, upload};
use crate::datasets::DatasetStore;
use crate::ledger::{LedgerReader, Totals};
use crate::prepare::{Cancel, ListError, listing, snapshot};
use crate::registry::{Entry, Registry};
use crate::report::{OutputPlace, output_in_words, replace_file};
use sum::Sum;

/// The version of the record; of another one nothing is known.
const VERSION: u32 = 1;
/// Files of side inputs and models that are looked at: every job looks at them twice, and begins after the first time.
const MOST_SIDE_FILES: u64 = 100_000;
/// Entries whose fingerprints are read at once.
const STRETCH: u64 = 4096;

/// `.fanfold/reuse.json`
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// [`VERSION`]
    version: u32,
    /// What the job was made of when it began.
    makeup: Makeup,
    /// When that was, microseconds since the epoch.
    began_us: u64,
    /// What came of it. None: it is not Completed, or its result may not stand in for another.
    finished: Option<Finished>,
}

/// What a job is made of, but for its inputs.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Makeup {
    /// The keys that decide what comes out.
    settings: String,
    /// The script and what came with it.
    snapshot: String,
    /// The code that its processes load.
    environment: String,
    /// Side inputs, models, and inputs that are not split.
    side_inputs: String,
}

/// The result of a Completed job.
#[derive(Debug, Serialize, Deserialize)]
struct Finished {
    /// The inputs as the job saw them.
    inputs: String,
    /// The length of the output file, bytes.
    output_len: u64,
    /// When it was last written, microseconds since the epoch.
    output_modified_us: i64,
    /// The results in it.
    results: u64,
}

impl Record {
    /// That of the job in `dir`, if it can be read.
    fn read(dir: &JobDir) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(dir.reuse_json()).ok()?).ok()?;
        (record.version == VERSION).then_some(record)
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a record is plain data")
    }
}

impl Makeup {
    /// What the job would be made of now, `snapshot` being the hash of its script's copy. None: that can't be known.
    fn of(spec: &JobSpec, snapshot: &str, on_fleet: bool) -> Option<Makeup> {
        let environment = match on_fleet {
            true => environment::declared_identity(&spec.environment),
            false => environment::identity(&spec.environment),
        };
        Some(Makeup {
            settings: settings(spec, on_fleet),
            snapshot: snapshot.to_string(),
            environment: environment.ok()?,
            side_inputs: side_inputs(spec).ok()?,
        })
    }
}

/// Whether results of this job may stand in, and be stood in for, at all.
fn may_be_reused(spec: &JobSpec) -> bool {
    spec.allow_reuse && spec.output_action == OutputAction::AppendRow
}

/// The keys that make it another job where it is continued, and the variables. All others decide how a job runs, whether it succeeds, and
/// how much of it may fail, but not what is in the output of one in which nothing failed.
fn settings(spec: &JobSpec, on_fleet: bool) -> String {
    let variables = serde_json::to_string(&spec.environment_variables).expect("plain data");
    // Elsewhere another Python may be meant by the same word.
    let place = if on_fleet { format!("pool {}", spec.compute_target) } else { "here".into() };
    let mut sum = Sum::default();
    sum.add(&[b"settings 1", place.as_bytes(), job::fingerprint(spec).as_bytes(), variables.as_bytes()]);
    sum.word()
}

/// All files of side inputs and models as they are now; of mini-batches without input those of the inputs as well.
fn side_inputs(spec: &JobSpec) -> Result<String, ListError> {
    let named = |key, name: &String| format!("{key}.{name}");
    let side_inputs = spec.side_inputs.iter().map(|(name, path)| (named("side_inputs", name), path.as_path()));
    let models = spec.models.iter().map(|(name, path)| (named("models", name), path.as_path()));
    // Inputs that are not split are read by the script as it likes.
    let unsplit = spec.inputs.iter().filter(|_| spec.input_type == InputType::Ranks);
    let inputs = unsplit.map(|input| (named("inputs", &input.name), Path::new(&input.path)));
    let mut sum = Sum::default();
    for (name, path) in side_inputs.chain(models).chain(inputs) {
        listing::each_file(&name, path, &|| Ok(()), |root, file, known| {
            if sum.count() == MOST_SIDE_FILES {
                return Err(ListError::Canceled);
            }
            let found = known.unwrap_or_else(|| fingerprint(root, file));
            sum.file(&name, root, file, found);
            Ok(())
        })?;
    }
    Ok(sum.word())
}

/// All inputs as they are now.
fn inputs_now(spec: &JobSpec, own: &[PathBuf], cancel: &Cancel<'_>) -> Result<String, ListError> {
    let mut sum = Sum::default();
    if spec.input_type == InputType::Ranks {
        return Ok(sum.word());
    }
    let mut line = 0;
    listing::each_entry(spec, own, cancel, |input, root, entry, known| {
        if spec.input_type == InputType::Lines {
            sum.line(input, line, entry);
            line += 1;
        } else {
            let found = known.unwrap_or_else(|| fingerprint(root, entry));
            sum.file(&input.to_string(), root, entry, found);
        }
        Ok(())
    })?;
    Ok(sum.word())
}

/// The inputs as the job saw them. None: of some file that is not known for sure.
fn inputs_seen(dir: &JobDir, spec: &JobSpec, items: &ItemReader, began_us: u64) -> Result<Option<String>, ItemsError> {
    let mut sum = Sum::default();
    if spec.input_type == InputType::Ranks {
        return Ok(Some(sum.word()));
    }
    let are_lines = !spec.input_type.has_files();
    let fingerprints = if are_lines { None } else { Some(Fingerprints::open(&dir.items(), items.entries())?) };
    for (number, input) in items.split().inputs.iter().enumerate() {
        let (mut start, is_cloud) = (input.entries.start, input.uri().is_some());
        while start < input.entries.end {
            let stretch = start..input.entries.end.min(start + STRETCH);
            let known = fingerprints.as_ref().map(|known| known.get(stretch.clone())).transpose()?.unwrap_or_default();
            let mut all = true;
            items.for_each(stretch.clone(), |at, entry| match known.get((at - stretch.start) as usize) {
                _ if are_lines => sum.line(number, at, entry),
                // A version says of an object whether it is the same, whenever it was written. Some servers say none.
                Some(found @ Fingerprint::File { mtime_ns, .. }) if is_cloud && *mtime_ns != 0 => {
                    sum.file(&number.to_string(), Path::new(&input.root), entry, *found);
                }
                // What was written after the job began may have been written after it was read, too, and look the same.
                Some(found @ Fingerprint::File { mtime_ns, .. })
                    if !is_cloud && mtime_ns.div_euclid(1000) < began_us as i64 =>
                {
                    sum.file(&number.to_string(), Path::new(&input.root), entry, *found);
                }
                _ => all = false,
            })?;
            if !all {
                return Ok(None);
            }
            start = stretch.end;
        }
    }
    Ok(Some(sum.word()))
}

fn fingerprint(root: &Path, name: &[u8]) -> Fingerprint {
    let path = root.join(OsStr::from_bytes(name));
    fs::metadata(path).as_ref().map_or(Fingerprint::Unknown, Fingerprint::from)
}

fn modified_us(found: &Metadata) -> i64 {
    found.mtime().saturating_mul(1_000_000).saturating_add(found.mtime_nsec() / 1000)
}

/// The job in `dir` is about to run. `first`: nothing of it ran before.
///
/// # Errors
/// The record can't be written, or not be removed.
pub(super) fn begin(spec: &JobSpec, dir: &JobDir, snapshot: &str, on_fleet: bool, first: bool) -> Result<(), IoError> {
    let path = dir.reuse_json();
    let makeup = if may_be_reused(spec) { Makeup::of(spec, snapshot, on_fleet) } else { None };
    match (makeup, Record::read(dir)) {
        (Some(makeup), _) if first => {
            let record = Record { version: VERSION, makeup, began_us: clock::wall_us(), finished: None };
            // Not synced: what a power cut takes is a shortcut.
            replace_file(&path, &record.bytes()).during("write", &path)
        }
        (Some(makeup), Some(before)) if before.makeup == makeup && before.finished.is_none() => Ok(()),
        _ => match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).during("remove", &path),
            _ => Ok(()),
        },
    }
}

/// The job in `dir` is Completed, with an output of `written` bytes: if its result may stand in for others, that is written down.
pub(super) fn finish(spec: &JobSpec, dir: &JobDir, items: &ItemReader, totals: &Totals, written: u64, on_fleet: bool) {
    let Some(mut record) = Record::read(dir) else { return };
    if totals.items_failed + totals.mini_batches_failed > 0 || !may_be_reused(spec) {
        return;
    }
    if Makeup::of(spec, &record.makeup.snapshot, on_fleet).as_ref() != Some(&record.makeup) {
        return;
    }
    let found = output_file(spec, dir).and_then(|file| fs::metadata(file).ok());
    let Some(found) = found.filter(|found| found.len() == written) else { return };
    let Ok(Some(inputs)) = inputs_seen(dir, spec, items, record.began_us) else { return };
    let (output_len, output_modified_us, results) = (found.len(), modified_us(&found), totals.returned);
    record.finished = Some(Finished { inputs, output_len, output_modified_us, results });
    let _ = durable::replace(&dir.reuse_json(), &record.bytes());
}

/// Looks whether the job of `job_file` would be one that is Completed already, and says so; the exit code is that job's. None: it is to be
/// run. A word tells why, if all that an earlier one lacks is its result.
///
/// # Errors
/// The job file's.
pub fn reuse(job_file: &Path, overrides: &[String], on_fleet: bool, orders: &Orders) -> Result<Option<ExitCode>> {
    let datasets = DatasetStore::of_user();
    let spec = match on_fleet {
        true => job::load_for_fleet(job_file, overrides, &datasets)?,
        false => job::load(job_file, overrides, &datasets)?,
    };
    let audience = Audience::default();
    match find(&spec, job_file, on_fleet, &|| ListError::canceled_if(orders.count() > 0)) {
        Some(Found::Whole(entry, finished)) => {
            let id = &entry.id;
            audience.tell(&format!("{id} was the same job and is Completed: its result is used, nothing was run"));
            let dir = JobDir::new(&entry.job_dir);
            orders.are_for(&dir);
            let (file, folder, uri) = (output_file(&spec, &dir), output_dir(&spec, &dir), output_uri(&spec));
            let place = OutputPlace { file: file.as_deref(), dir: &folder, uri: uri.as_ref() };
            let output = output_in_words(place, JobState::Completed, finished.results, finished.output_len);
            audience.tell(&format!("  output        {output}"));
            audience.tell("  hint          `--no-reuse` runs the job all the same");
            Ok(Some(ExitCode::Completed))
        }
        Some(Found::Broken(entry, what)) => {
            let id = entry.id;
            audience.tell(&format!("{id} had the same settings and script, but {what}: its result is not used"));
            Ok(None)
        }
        None => Ok(None),
    }
}

/// The job that would stand in for the one of `spec`, if it were run without `--job-dir`.
pub fn stand_in(spec: &JobSpec, job_file: &Path, on_fleet: bool) -> Option<String> {
    match find(spec, job_file, on_fleet, &|| Ok(()))? {
        Found::Whole(entry, _) => Some(entry.id),
        Found::Broken(..) => None,
    }
}

/// What was found.
enum Found {
    /// The result is there.
    Whole(Entry, Finished),
    /// The newest job that might have been the same, and what is wrong with it.
    Broken(Entry, String),
}

/// Cheap things first: small files of known jobs, then the script and the environment, then the outputs, and last a look at every input.
fn find(spec: &JobSpec, job_file: &Path, on_fleet: bool, cancel: &Cancel<'_>) -> Option<Found> {
    if !may_be_reused(spec) {
        return None;
    }
    let settings = settings(spec, on_fleet);
    let known = Registry::of_user().called(&spec.name).into_iter().filter_map(|entry| {
        let Record { makeup, finished, .. } = Record::read(&JobDir::new(&entry.job_dir))?;
        (makeup.settings == settings).then_some((entry, makeup, finished?))
    });
    let mut known: Vec<_> = known.collect();
    if known.is_empty() {
        return None;
    }
    // Where a new job would lie: its own directories are no part of its script and its inputs.
    let dir = JobDir::new(std::path::absolute(Path::new("fanfold-jobs").join(&spec.name)).ok()?);
    let own = listing::own_directories(&dir, &output_dir(spec, &dir));
    let beside: Vec<PathBuf> = own.iter().cloned().chain([job_file.to_path_buf()]).collect();
    let now = Makeup::of(spec, &snapshot::preview(spec, &beside).ok()?.hash, on_fleet)?;
    known.retain(|(_, makeup, _)| *makeup == now);
    let (mut whole, mut broken) = (Vec::new(), None);
    for (entry, _, finished) in known {
        match damage(spec, &entry, &finished) {
            None => whole.push((entry, finished)),
            Some(what) => drop(broken.get_or_insert((entry, what))),
        }
    }
    if whole.is_empty() {
        return broken.map(|(entry, what)| Found::Broken(entry, what));
    }
    let inputs = inputs_now(spec, &own, cancel).ok()?;
    let same = whole.into_iter().find(|(_, finished)| finished.inputs == inputs);
    same.map(|(entry, finished)| Found::Whole(entry, finished))
}

/// Why the result of a job that was the same is not there any more.
fn damage(spec: &JobSpec, entry: &Entry, finished: &Finished) -> Option<String> {
    let dir = JobDir::new(&entry.job_dir);
    let is_job = JobRecord::read(&dir).is_ok_and(|record| record.is_some_and(|record| record.id.0 == entry.id));
    let is_whole =
        is_job && dir.snapshot(ScriptNumber::FIRST).is_dir() && is_listed(&dir.items()) && dir.status_json().is_file();
    if !is_whole {
        return Some(format!("its directory `{}` is damaged", dir.root().display()));
    }
    let file = output_file(spec, &dir)?;
    let what = match fs::metadata(&file) {
        Ok(found) if found.len() == finished.output_len && modified_us(&found) == finished.output_modified_us => {
            return spec.output_uri.as_ref().and_then(|uri| not_uploaded(&dir, uri));
        }
        Ok(_) => "was changed since".to_string(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is gone".to_string(),
        Err(error) => format!("can't be examined ({error})"),
    };
    Some(format!("its output `{}` {what}", file.display()))
}

/// What is wrong with the objects that the job in `dir` uploaded.
fn not_uploaded(dir: &JobDir, uri: &Uri) -> Option<String> {
    let mut first = None;
    let asked = LedgerReader::open(dir).map_err(Failure::from).and_then(|ledger| {
        upload::lost(&ledger, uri, &mut |problem| {
            let _ = first.get_or_insert(problem);
        })
    });
    first.or_else(|| asked.err().map(|failure| failure.one_line()))
}
