//! `fanfold dataset`: registers data under a name, and shows what is registered; of this user, or of a service.

mod versions;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use fanfold_shared::clock::{duration, rfc3339, wall_us};
use fanfold_shared::fleet::SharedRoot;
use fanfold_shared::job::{Dataset, DatasetRef, Datasets};
use fanfold_shared::report::{During, ExitCode, Failure, Result};
use fanfold_shared::text::{counted, grouped, harmless, size};
use fanfold_shared::uri::Uri;
use fanfold_worker::node::host_name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::args::ServiceArgs;
use super::client::{Client, ClientError};
use super::written;
use crate::datasets::{self, DatasetError, DatasetStore, Outcome, Registration, objects};
use crate::terminal::{self, Align, Table};

/// The version of what `--json` writes.
const VERSION: u32 = 1;

/// What `dataset` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Register data under a name that a job file can give as an input
    Register(RegisterArgs),
    /// List the datasets, each with its newest version; or all versions of one
    List(ListArgs),
    /// Show one version of a dataset
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct RegisterArgs {
    /// The dataset's name
    #[arg(value_name = "NAME")]
    name: String,
    /// A file, a folder or a pattern; may be repeated
    #[arg(long = "path", value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// What its items are: files, lines, csv, tsv, jsonl or parquet [default: files]
    #[arg(long, value_name = "TYPE")]
    input_type: Option<String>,
    /// How CSV is read, as in a job file, e.g. `{sep: ";", header: false}`
    #[arg(long, value_name = "MAP")]
    read_csv: Option<String>,
    /// What it is, in your words
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The name is registered already: make this its next version
    #[arg(long)]
    new_version: bool,
    #[command(flatten)]
    service: ServiceArgs,
    /// With a service: where this machine has the shared directory, if not where the service has it
    #[arg(long, value_name = "DIR", env = "FANFOLD_SHARED")]
    shared: Option<PathBuf>,
    /// Write the version as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// A dataset: all its versions
    #[arg(value_name = "NAME")]
    dataset: Option<String>,
    #[command(flatten)]
    service: ServiceArgs,
    /// Write one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// A name for its newest version, or `iris:3`, `iris@latest`
    #[arg(value_name = "NAME")]
    dataset: String,
    #[command(flatten)]
    service: ServiceArgs,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// A version, and which others there are: what `show --json` and `GET /v1/datasets/{name}` say.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shown {
    version: u32,
    dataset: Dataset,
    versions: Vec<u32>,
}

impl Shown {
    /// A version of a dataset that has these.
    pub fn new(dataset: Dataset, versions: Vec<u32>) -> Shown {
        Shown { version: VERSION, dataset, versions }
    }
}

/// A line of the list.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    dataset: Dataset,
    versions: Vec<u32>,
}

/// What a service answers.
#[derive(Deserialize)]
struct List {
    datasets: Vec<Line>,
}

/// What `register` asks of a service.
#[derive(Serialize)]
struct Request<'a> {
    name: &'a str,
    paths: Vec<String>,
    input_type: &'a Option<String>,
    read_csv: &'a Option<String>,
    description: &'a Option<String>,
    new_version: bool,
}

/// Registers, lists or shows.
///
/// # Errors
/// What is registered can't be, or what is looked for is not there.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    match &args.verb {
        Verb::Register(args) => register(args, out),
        Verb::List(args) => list(args, out),
        Verb::Show(args) => show(args, out),
    }
}

fn register(args: &RegisterArgs, out: &mut dyn Write) -> Result<ExitCode> {
    let (dataset, known) = match args.service.client()? {
        Some(client) => {
            let shared = args.shared.as_deref();
            let request = Request {
                name: &args.name,
                paths: args.paths.iter().map(|path| travels(path, shared)).collect::<Result<_>>()?,
                input_type: &args.input_type,
                read_csv: &args.read_csv,
                description: &args.description,
                new_version: args.new_version,
            };
            #[derive(Deserialize)]
            struct Answer {
                dataset: Dataset,
                known: bool,
            }
            let Answer { dataset, known } = client.post(&["v1", "datasets"], None, &request)?;
            (dataset, known)
        }
        None => {
            let registration = Registration {
                name: args.name.clone(),
                paths: args.paths.clone(),
                base: std::env::current_dir().during("find", ".")?,
                input_type: args.input_type.clone(),
                read_csv: args.read_csv.clone(),
                description: args.description.clone(),
                new_version: args.new_version,
                who: user(),
            };
            let Outcome { dataset, known } = datasets::register(&DatasetStore::of_user(), &registration, &|_| Ok(()))?;
            (dataset, known)
        }
    };
    let holds = format!("{}, {}", counted(dataset.files(), "file"), size(dataset.bytes()));
    match known {
        true => terminal::tell(&format!("{} is just this already: {holds}", dataset.id)),
        false => terminal::tell(&format!("{} is registered: {holds}", dataset.id)),
    }
    let outcome = match args.json {
        true => writeln!(out, "{:#}", datasets::to_json(&dataset)),
        false => writeln!(out, "{}", dataset.id),
    };
    Ok(written(outcome)?)
}

/// `me@box1`
fn user() -> String {
    let id = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name);
    format!("{name}@{}", host_name())
}

/// The path as the service understands it: relative to the shared directory where that is known here, else absolute.
fn travels(path: &str, shared: Option<&Path>) -> Result<String> {
    let absolute = std::path::absolute(path).during("find", path)?;
    let travels = match shared {
        Some(shared) => {
            let shared = SharedRoot::find(shared).during("find the shared directory", shared)?;
            shared.relative(&absolute).map_err(crate::service::ServiceError::from)?
        }
        None => absolute,
    };
    Ok(travels.to_string_lossy().into_owned())
}

/// What `list --json` and `GET /v1/datasets` say. A record that can't be read is told and left out.
///
/// # Errors
/// They can't be listed.
pub fn list_json(store: &DatasetStore, tell: &dyn Fn(&str)) -> Result<Value> {
    let mut lines = Vec::new();
    for listed in store.list()? {
        match listed {
            Ok(listed) => lines.push(Line { dataset: listed.newest, versions: listed.versions }),
            Err(error) => tell(&format!("warning: {}", Failure::from(error).one_line())),
        }
    }
    Ok(json!({"version": VERSION, "datasets": lines}))
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Result<ExitCode> {
    let client = args.service.client()?;
    if let Some(name) = &args.dataset {
        let lines = versions::of(client.as_ref(), name)?;
        let outcome = match args.json {
            true => writeln!(out, "{:#}", json!({"version": VERSION, "datasets": lines})),
            false => versions::write_table(&lines, wall_us(), out),
        };
        return Ok(written(outcome)?);
    }
    let (value, lines): (Value, Vec<Line>) = match client {
        Some(client) => {
            let value: Value = client.get(&["v1", "datasets"], &[])?;
            let list: List = client.understand(value.clone())?;
            (value, list.datasets)
        }
        None => {
            let value = list_json(&DatasetStore::of_user(), &terminal::tell)?;
            let list: List = serde_json::from_value(value.clone()).expect("it was made of the same");
            (value, list.datasets)
        }
    };
    let outcome = if args.json { writeln!(out, "{value:#}") } else { write_table(&lines, wall_us(), out) };
    Ok(written(outcome)?)
}

fn write_table(lines: &[Line], now_us: u64, out: &mut dyn Write) -> io::Result<()> {
    if lines.is_empty() {
        return writeln!(out, "No datasets. `fanfold dataset register NAME --path PATH` registers one.");
    }
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("DATASET", left),
        ("VERSIONS", right),
        ("TYPE", left),
        ("FILES", right),
        ("SIZE", right),
        ("AGE", right),
        ("PATH", left),
    ]);
    for Line { dataset, versions } in lines {
        let age = duration(now_us.saturating_sub(dataset.created) as f64 / 1e6);
        table.row([
            &dataset.id.to_string(),
            &grouped(versions.len() as u64),
            dataset.input_type.name(),
            &grouped(dataset.files()),
            &size(dataset.bytes()),
            &age,
            &path_in_words(dataset),
        ]);
    }
    table.write(out)
}

/// Where its data lies, in a line.
fn path_in_words(dataset: &Dataset) -> String {
    match &dataset.paths[..] {
        [first, rest @ ..] if !rest.is_empty() => format!("{} and {} more", first.path, rest.len()),
        paths => paths.first().map(|part| part.path.clone()).unwrap_or_default(),
    }
}

/// One version of `store`, and which others there are.
///
/// # Errors
/// It is not there, or can't be read.
pub fn shown(store: &DatasetStore, wanted: &DatasetRef) -> Result<Shown, DatasetError> {
    let dataset = store.get(wanted)?;
    Ok(Shown::new(dataset, store.versions(&wanted.name)?))
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<ExitCode> {
    let wanted = DatasetRef::parse(&args.dataset).ok_or_else(|| DatasetError::BadReference(args.dataset.clone()))?;
    let shown = match args.service.client()? {
        Some(client) => ask(&client, &wanted)?,
        None => shown(&DatasetStore::of_user(), &wanted)?,
    };
    let outcome = match args.json {
        true => writeln!(out, "{:#}", serde_json::to_value(&shown).expect("strings and numbers")),
        false => write_text(&shown, out),
    };
    Ok(written(outcome)?)
}

fn ask(client: &Client, wanted: &DatasetRef) -> Result<Shown, ClientError> {
    let version = wanted.version.map(|version| version.to_string());
    let query: Vec<(&str, &str)> = version.as_deref().map(|version| ("version", version)).into_iter().collect();
    client.get(&["v1", "datasets", &wanted.name], &query)
}

fn write_text(shown: &Shown, out: &mut dyn Write) -> io::Result<()> {
    let Shown { dataset, versions, .. } = shown;
    let newest = versions.last().copied().unwrap_or(dataset.id.version);
    match (newest == dataset.id.version, versions.len()) {
        (true, 0 | 1) => writeln!(out, "{}", dataset.id)?,
        (true, count) => writeln!(out, "{}, the newest of {count} versions", dataset.id)?,
        (false, count) => writeln!(out, "{} of {count} versions, the newest is {newest}", dataset.id)?,
    }
    if let Some(description) = &dataset.description {
        writeln!(out, "  {}", harmless(description.trim_end()).replace('\n', "\n  "))?;
    }
    writeln!(out)?;
    let mut table = Table::without_headings(&[Align::Left, Align::Left]);
    for part in &dataset.paths {
        let held = format!("{}, {}", counted(part.contents.files, "file"), size(part.contents.bytes));
        table.row(["path", &format!("{} ({held})", part.path)]);
    }
    table.row(["input type", dataset.input_type.name()]);
    if let Some(read_csv) = &dataset.read_csv {
        table.row(["read_csv", &serde_json::to_string(read_csv).expect("strings and numbers")]);
    }
    table.row(["registered", &format!("{} by {}", rfc3339(dataset.created), dataset.created_by)]);
    table.row(["in a job file", &format!("inputs: [{}]", dataset.id)]);
    table.write(out)
}

/// The datasets of a service.
pub struct OfService<'a>(pub &'a Client);

impl fmt::Debug for OfService<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the datasets of a service")
    }
}

impl Datasets for OfService<'_> {
    fn find(&self, wanted: &DatasetRef) -> Result<Option<Dataset>, Failure> {
        match ask(self.0, wanted) {
            Ok(shown) => Ok(Some(shown.dataset)),
            Err(ClientError::Refused { code, .. }) if code == crate::api::NO_SUCH_DATASET => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn names(&self) -> Vec<String> {
        let list = self.0.get::<List>(&["v1", "datasets"], &[]).map(|list| list.datasets).unwrap_or_default();
        list.into_iter().map(|line| line.dataset.id.name).collect()
    }

    fn object(&self, uri: &Uri, most: u64) -> Result<Option<Vec<u8>>, Failure> {
        objects::read(uri, most)
    }
}

#[cfg(test)]
mod tests {
    use fanfold_shared::job::{Contents, DatasetId, DatasetPath, InputType, ReadCsv};

    use super::*;

    const THEN: u64 = 1_795_228_735_226_929;

    fn iris() -> Dataset {
        let part = |path: &str| DatasetPath {
            path: path.into(),
            contents: Contents { files: 1200, bytes: 7 << 20, fingerprint: "f".repeat(64) },
        };
        Dataset {
            id: DatasetId { name: "iris".into(), version: 2 },
            description: Some("petals\nand sepals\u{1b}".into()),
            input_type: InputType::Csv,
            read_csv: Some(ReadCsv::new(';')),
            paths: vec![part("/data/a"), part("/data/b/*.csv")],
            created: THEN,
            created_by: "me@box1".into(),
        }
    }

    #[test]
    fn a_list_has_a_line_for_each_dataset() {
        let photos = Dataset {
            id: DatasetId { name: "photos".into(), version: 1 },
            input_type: InputType::Files,
            read_csv: None,
            paths: vec![iris().paths[0].clone()],
            ..iris()
        };
        let lines = [Line { dataset: iris(), versions: vec![1, 2] }, Line { dataset: photos, versions: vec![1] }];
        let mut out = Vec::new();
        write_table(&lines, THEN + 3_600_000_000, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        DATASET   VERSIONS  TYPE   FILES      SIZE         AGE  PATH
        iris:2           2  csv    2,400  14.0 MiB  1 h 00 min  /data/a and 1 more
        photos:1         1  files  1,200   7.0 MiB  1 h 00 min  /data/a
        "#);
    }

    #[test]
    fn a_version_is_shown_with_what_was_there() {
        let mut out = Vec::new();
        write_text(&Shown::new(iris(), vec![1, 2, 3]), &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        iris:2 of 3 versions, the newest is 3
          petals
          and sepals\x1b

        path           /data/a (1,200 files, 7.0 MiB)
        path           /data/b/*.csv (1,200 files, 7.0 MiB)
        input type     csv
        read_csv       {"sep":";","encoding":"utf-8","header":true,"quotechar":"\"","dtype":{}}
        registered     2026-11-21T02:38:55.226929Z by me@box1
        in a job file  inputs: [iris:2]
        "#);
    }

    #[test]
    fn the_json_is_the_record_with_the_versions() {
        let value = serde_json::to_value(Shown::new(iris(), vec![1, 2])).unwrap();
        insta::assert_snapshot!(format!("{value:#}"), @r#"
        {
          "version": 1,
          "dataset": {
            "name": "iris",
            "version": 2,
            "description": "petals\nand sepals\u001b",
            "input_type": "csv",
            "read_csv": {
              "sep": ";",
              "encoding": "utf-8",
              "header": true,
              "quotechar": "\"",
              "dtype": {}
            },
            "paths": [
              {
                "path": "/data/a",
                "files": 1200,
                "bytes": 7340032,
                "fingerprint": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
              },
              {
                "path": "/data/b/*.csv",
                "files": 1200,
                "bytes": 7340032,
                "fingerprint": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
              }
            ],
            "created": "2026-11-21T02:38:55.226929Z",
            "created_by": "me@box1"
          },
          "versions": [
            1,
            2
          ]
        }
        "#);
        assert_eq!(datasets::from_json(value.to_string().as_bytes()).unwrap(), iris());
    }
}
