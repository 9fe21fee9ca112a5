//! `fanfold logs JOB [WHICH]`: the files of the log tree and what they are; or what is in them, also as it comes.

mod show;

pub(crate) use show::tail_start;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{ExitCode, Report, Result};
use fanfold_shared::text::size;
use serde::{Deserialize, Serialize};

use super::args::JobArgs;
use super::target::Target;
use super::{piped, written};
use crate::terminal::{Align, Table};

/// The version of what `--json` writes.
const VERSION: u32 = 1;

/// What `logs` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// `overview`, `result`, `errors`, `master`, `driver`, a process (`process000`, `<node>/process000`), or a part of a file's
    /// path in the log tree; without it, the files are listed
    #[arg(value_name = "WHICH")]
    pub which: Option<String>,
    /// Of a process: what it wrote to standard output
    #[arg(long)]
    pub stdout: bool,
    /// Of a process: what it wrote to standard error
    #[arg(long)]
    pub stderr: bool,
    /// Only the last N lines of each file
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Go on with what is written until the job is over
    #[arg(long, short)]
    pub follow: bool,
    /// List the files as one JSON object
    #[arg(long, conflicts_with = "which")]
    pub json: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// No file is meant.
    #[error("no log of the job matches `{which}`")]
    NoMatch {
        /// What was asked for.
        which: String,
        /// The job, as it was given.
        job: String,
    },
}

impl Report for LogsError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        let LogsError::NoMatch { job, .. } = self;
        Some(format!("`fanfold logs {job}` lists them; a log appears with its first line"))
    }
}

/// What a service answers.
#[derive(Deserialize)]
struct List {
    job_dir: PathBuf,
    files: Vec<Listed>,
}

/// Lists or shows the job's logs.
///
/// # Errors
/// The job can't be found, no file is meant, or one can't be read.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let target = args.job.find()?;
    let Some(which) = &args.which else {
        let List { job_dir, files } = match &target {
            Target::Dir(dir) => List { job_dir: dir.root().to_path_buf(), files: listed(dir) },
            Target::Service(client, job) => client.get(&["v1", "jobs", job, "logs"], &[])?,
        };
        let dir = JobDir::new(job_dir);
        return Ok(written(if args.json { write_json(&dir, &files, out) } else { write_table(&dir, &files, out) })?);
    };
    let all = match &target {
        Target::Dir(dir) => files(dir),
        Target::Service(client, job) => {
            let list: List = client.get(&["v1", "jobs", job, "logs"], &[])?;
            list.files.into_iter().map(|file| file.path.into()).collect()
        }
    };
    let files = chosen(all, which, args.stdout, args.stderr);
    if files.is_empty() {
        return Err(LogsError::NoMatch { which: which.clone(), job: args.job.job.clone() }.into());
    }
    // What scripts print may steer a terminal; a file or a pipe gets the bytes as they are.
    let raw = !io::stdout().is_terminal();
    piped(show::show(&target, &files, args.tail, args.follow, raw, out))
}

/// The files of the job's log tree, and the driver's log: paths relative to the job directory, sorted.
pub(crate) fn files(dir: &JobDir) -> Vec<PathBuf> {
    let roots = [dir.logs().root().to_path_buf(), dir.driver_log()];
    let mut files: Vec<PathBuf> = roots
        .iter()
        .flat_map(|root| walkdir::WalkDir::new(root).sort_by_file_name())
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        // Nothing outside: the link to the newest overview is not followed, its target is listed itself.
        .filter_map(|entry| entry.path().strip_prefix(dir.root()).map(Path::to_path_buf).ok())
        .collect();
    files.sort();
    files
}

/// One file of the list.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    /// Relative to the job directory.
    path: String,
    bytes: u64,
    what: String,
}

fn listed(dir: &JobDir) -> Vec<Listed> {
    let listed = |file: PathBuf| {
        let bytes = fs::metadata(dir.root().join(&file)).map_or(0, |metadata| metadata.len());
        let path = file.to_string_lossy().into_owned();
        Listed { what: describe(&path).into(), path, bytes }
    };
    files(dir).into_iter().map(listed).collect()
}

/// The list as JSON.
pub fn to_json(dir: &JobDir) -> serde_json::Value {
    json_of(dir, &listed(dir))
}

fn json_of(dir: &JobDir, listed: &[Listed]) -> serde_json::Value {
    serde_json::json!({"version": VERSION, "job_dir": dir.root().to_string_lossy(), "files": listed})
}

fn write_json(dir: &JobDir, listed: &[Listed], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &json_of(dir, listed))?;
    writeln!(out)
}

fn write_table(dir: &JobDir, listed: &[Listed], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&[("SIZE", Align::Right), ("FILE", Align::Left), ("WHAT", Align::Left)]);
    for file in listed {
        table.row([&size(file.bytes), &file.path, &file.what]);
    }
    writeln!(out, "{}", dir.root().display())?;
    table.write(out)
}

/// What a file is, by its path in the job directory.
fn describe(path: &str) -> &'static str {
    let path = path.strip_prefix("logs/").unwrap_or(path);
    let what = [
        ("azureml-logs/70_driver_log.txt", "", "the process that started the job"),
        ("readme.txt", "", "explains this layout"),
        ("job_progress_overview.", "", "progress and result"),
        ("job_result.txt", "", "state, cause, first errors"),
        ("user/error.txt", "", "errors of the script, grouped"),
        ("user/error/", "", "errors of the script, one by one"),
        ("user/entry_script_log/", ".log.txt", "EntryScript().logger"),
        ("user/entry_script_log/", "", "a file of the script's own"),
        ("user/stdout/", "", "sys.stdout, logging"),
        ("user/stderr/", "", "sys.stderr"),
        ("sys/master_role.txt", "", "the coordinator"),
        ("sys/environment_build.txt", "", "pip"),
        ("sys/error/", "", "errors of fanfold"),
        ("sys/node/", ".stdout.txt", "descriptor 1: C code, subprocesses"),
        ("sys/node/", ".stderr.txt", "descriptor 2: C code, subprocesses"),
        ("sys/node/", ".profile", "Python profile"),
        ("sys/node/", "", "a line for each mini-batch"),
        ("sys/job_report/", "", "table"),
        ("perf/", "node_resource_usage.csv", "processors, memory, disks, network of the host"),
        ("perf/", "node_disk_usage.csv", "file systems of the node"),
        ("perf/", "processes_resource_usage.csv", "what each process takes"),
        ("perf/", "", "all processes of the host"),
    ];
    let found = what.into_iter().find(|(begin, end, _)| path.starts_with(begin) && path.ends_with(end));
    found.map_or("", |(_, _, what)| what)
}

/// Those of `files` that are meant.
fn chosen(files: Vec<PathBuf>, which: &str, stdout: bool, stderr: bool) -> Vec<PathBuf> {
    let named = match which {
        "result" => Some("logs/job_result.txt"),
        "errors" | "error" => Some("logs/user/error.txt"),
        "master" => Some("logs/sys/master_role.txt"),
        "driver" => Some("azureml-logs/70_driver_log.txt"),
        "readme" => Some("logs/readme.txt"),
        _ => None,
    };
    if let Some(name) = named {
        return files.into_iter().filter(|file| file == Path::new(name)).collect();
    }
    if which == "overview" {
        // The newest: they are named by the hour.
        return files
            .into_iter()
            .filter(|file| file.to_string_lossy().starts_with("logs/job_progress_overview."))
            .max()
            .into_iter()
            .collect();
    }
    let process = which.rsplit('/').next().is_some_and(|name| {
        name.strip_prefix("process").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    let wanted = |path: &PathBuf| {
        let text = path.to_string_lossy();
        let stream = [(stdout, ".stdout.txt"), (stderr, ".stderr.txt")];
        match process {
            true if stdout || stderr => stream.iter().any(|(on, end)| *on && text.ends_with(&format!("/{which}{end}"))),
            true => text.starts_with("logs/sys/node/") && text.ends_with(&format!("/{which}.txt")),
            false => {
                text.contains(which)
                    && (!(stdout || stderr) || stream.iter().any(|(on, end)| *on && text.ends_with(end)))
            }
        }
    };
    files.into_iter().filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> (tempfile::TempDir, JobDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::new(root.path());
        for (path, text) in [
            ("logs/readme.txt", "read me\n"),
            ("logs/job_progress_overview.2026112102.txt", "one\ntwo\nthree\n"),
            ("logs/sys/node/0/process000.txt", "mini-batches of 0\n"),
            ("logs/sys/node/0/process000.stderr.txt", "C says \x1b[31mno\n"),
            ("logs/sys/node/1/process000.txt", "mini-batches of 1\n"),
            ("logs/user/stderr/0/process000.stderr.txt", "Python says no\n"),
            ("logs/user/stdout/0/process000.stdout.txt", "Python says yes\n"),
            ("azureml-logs/70_driver_log.txt", "driver\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("job_progress_overview.2026112102.txt", dir.logs().overview(None)).unwrap();
        (root, dir)
    }

    fn select(dir: &JobDir, which: &str, (stdout, stderr): (bool, bool)) -> Vec<PathBuf> {
        chosen(files(dir), which, stdout, stderr)
    }

    fn shown(dir: &JobDir, which: &str, (stdout, stderr): (bool, bool), raw: bool) -> String {
        let mut out = Vec::new();
        show::show(dir, &select(dir, which, (stdout, stderr)), None, false, raw, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_list_says_what_each_file_is() {
        let (root, dir) = job();
        let mut out = Vec::new();
        write_table(&dir, &listed(&dir), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap().replace(root.path().to_str().unwrap(), "/j");
        insta::assert_snapshot!(text, @r#"
        /j
        SIZE  FILE                                       WHAT
         7 B  azureml-logs/70_driver_log.txt             the process that started the job
        14 B  logs/job_progress_overview.2026112102.txt  progress and result
         8 B  logs/readme.txt                            explains this layout
        15 B  logs/sys/node/0/process000.stderr.txt      descriptor 2: C code, subprocesses
        18 B  logs/sys/node/0/process000.txt             a line for each mini-batch
        18 B  logs/sys/node/1/process000.txt             a line for each mini-batch
        15 B  logs/user/stderr/0/process000.stderr.txt   sys.stderr
        16 B  logs/user/stdout/0/process000.stdout.txt   sys.stdout, logging
        "#);
    }

    #[test]
    fn the_list_is_json_too() {
        let (_root, dir) = job();
        let mut out = Vec::new();
        write_json(&dir, &listed(&dir)[..1], &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let file = serde_json::json!(
            {"path": "azureml-logs/70_driver_log.txt", "bytes": 7, "what": "the process that started the job"}
        );
        assert_eq!((&value["version"], &value["files"]), (&1.into(), &vec![file].into()));
    }

    #[test]
    fn names_and_parts_of_paths_select_files() {
        let (_root, dir) = job();
        let none = (false, false);
        assert_eq!(shown(&dir, "overview", none, true), "one\ntwo\nthree\n");
        assert_eq!(shown(&dir, "driver", none, true), "driver\n");
        assert_eq!(shown(&dir, "1/process000", none, true), "mini-batches of 1\n");
        assert_eq!(
            shown(&dir, "process000", none, true),
            "==> logs/sys/node/0/process000.txt <==\nmini-batches of 0\n\n==> logs/sys/node/1/process000.txt <==\nmini-batches of 1\n"
        );
        assert_eq!(shown(&dir, "process000", (true, false), true), "Python says yes\n");
        assert_eq!(
            shown(&dir, "0/process000", (false, true), false),
            "==> logs/sys/node/0/process000.stderr.txt <==\nC says \\x1b[31mno\n\n==> logs/user/stderr/0/process000.stderr.txt <==\nPython says no\n"
        );
        assert_eq!(select(&dir, "user/std", none).len(), 2);
        assert!(select(&dir, "result", none).is_empty(), "it is not there yet");
        assert!(select(&dir, "process001", none).is_empty());
    }
}
