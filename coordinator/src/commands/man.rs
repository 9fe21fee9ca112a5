//! `fanfold man`: the manual pages, made of what `--help` says.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_mangen::Man;
use fanfold_shared::report::{During, ExitCode, Result};

use super::written;

/// What the overview says behind the verbs: the exit codes, as docs/failures.md has them.
const EXIT_STATUS: &str = "\
.SH \"EXIT STATUS\"
.TP
0
Completed; or Paused by `fanfold pause`; or the command did what it says
.TP
1
Failed, for the cause that is stated
.TP
2
bad usage, job file or input; nothing was run, or what runs can\\*(Aqt go on as things are
.TP
3
Canceled
.TP
4
broker, Redis or coordinator are not reachable
.TP
5
Completed, but items failed and the job set no threshold
.TP
70
a bug of fanfold
.TP
130, 143
interrupted (Ctrl\\-C, SIGTERM); the same command goes on
";

/// What the page of the worker says.
const EXIT_STATUS_OF_WORKER: &str = "\
.SH \"EXIT STATUS\"
.TP
0
told to end once, or idle for as long as it was told to wait; `--health`: a worker is well
.TP
1
it can't go on, for the cause that is stated
.TP
2
bad usage, or what it was told is not there; nothing was run
.TP
4
`--health`: no worker of this host is connected
.TP
130, 143
told to end twice (Ctrl\\-C, SIGTERM)
";

/// Write the manual pages, one for each verb and one for fanfold-worker.
///
/// Without DIR the overview is printed: `fanfold man | man -l -`. `fanfold man ~/.local/share/man/man1` puts all of them where `man
/// fanfold-run` finds them, if ~/.local/bin is on PATH.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the pages; it is made, and pages of another version in it are replaced
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes the pages of `command`, the whole command line.
///
/// # Errors
/// They can't be written.
pub fn run(args: &Args, command: clap::Command, out: &mut dyn Write) -> Result<ExitCode> {
    // `help VERB` is `VERB --help`: a page of it would say nothing.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.dir else { return Ok(written(page(&command, out))?) };
    fs::create_dir_all(dir).during("create", dir)?;
    let mut commands = vec![&command];
    let mut worker = fanfold_worker::cli::Cli::command();
    worker.build();
    commands.push(&worker);
    while let Some(command) = commands.pop() {
        let path = dir.join(Man::new(command.clone()).get_filename());
        let mut text = Vec::new();
        page(command, &mut text).expect("a vector takes everything");
        fs::write(&path, text).during("write", &path)?;
        commands.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()));
    }
    Ok(ExitCode::Completed)
}

fn page(command: &clap::Command, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    match command.get_name() {
        "fanfold" => text.extend(EXIT_STATUS.bytes()),
        "fanfold-worker" => text.extend(EXIT_STATUS_OF_WORKER.bytes()),
        _ => (),
    }
    out.write_all(&text)
}
