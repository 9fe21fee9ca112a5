//! The `fanfold` program: reads the command line and hands over to the library.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use fanfold::commands;
use fanfold_shared::report::{self, Failure};

/// Runs a Python entry script over a dataset in mini-batches and writes every result exactly once into one output file.
#[derive(Parser)]
#[command(name = "fanfold", version, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a job on this machine or on a fleet, or go on with one that was interrupted
    Run(commands::run::Args),
    /// Try again what is out of tries, and go on with a job that failed
    Retry(commands::retry::Args),
    /// Show what would run, and run nothing
    Plan(commands::plan::Args),
    /// List the jobs of this user, or of a service
    Ls(commands::ls::Args),
    /// Show how far a job is, and what is wrong with it
    Status(commands::status::Args),
    /// List or print the logs of a job
    Logs(commands::logs::Args),
    /// Show what failed, grouped by cause
    Errors(commands::errors::Args),
    /// Follow a job until it is over
    Watch(commands::watch::Args),
    /// Print the output of a job, or copy it
    Results(commands::results::Args),
    /// Say why a job waits, or what it is busy with
    Explain(commands::explain::Args),
    /// End a job without a result
    Cancel(commands::orders::Args),
    /// Let a job finish what runs, and stand still
    Pause(commands::orders::Args),
    /// Go on with a job that stands still
    Resume(commands::orders::ResumeArgs),
    /// Give a job to a service
    Submit(commands::submit::Args),
    /// Run the coordinator of a fleet as a service
    Serve(commands::serve::Args),
    /// List the workers of a fleet
    Nodes(commands::nodes::Args),
    /// Let a worker finish what it has, and end
    Drain(commands::nodes::DrainArgs),
    /// Register data under a name, and show what is registered
    Dataset(commands::dataset::Args),
    /// Show the buckets and containers that this machine has credentials for, and try them
    Datastore(commands::datastore::Args),
    /// Check this machine, or the result of a job
    Doctor(commands::doctor::Args),
    /// Show the keys of a job file
    JobFile(commands::job_file::Args),
    /// Write the completion of a shell
    Completion(commands::completion::Args),
    /// Write the manual pages
    Man(commands::man::Args),
}

fn main() -> ExitCode {
    // The guardian process is this program as well; it must not parse, print or allocate anything of a normal run.
    fanfold_worker::guard::run_if_guard();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut out = io::stdout().lock();
    let outcome = match cli.command {
        // The job speaks to stderr; nobody else prints meanwhile.
        Command::Run(args) => commands::run::run(args, &mut out),
        Command::Retry(args) => commands::retry::run(&args, &mut out),
        Command::Plan(args) => commands::plan::run(args, &mut out),
        Command::Ls(args) => commands::ls::run(&args, &mut out),
        Command::Status(args) => commands::status::run(&args, &mut out),
        Command::Logs(args) => commands::logs::run(&args, &mut out),
        Command::Errors(args) => commands::errors::run(&args, &mut out),
        Command::Watch(args) => commands::watch::run(&args, &mut out),
        Command::Results(args) => commands::results::run(&args, &mut out),
        Command::Explain(args) => commands::explain::run(&args, &mut out),
        Command::Cancel(args) => commands::orders::cancel(&args, &mut out),
        Command::Pause(args) => commands::orders::pause(&args, &mut out),
        Command::Resume(args) => commands::orders::resume(&args, &mut out),
        Command::Submit(args) => commands::submit::run(args, &mut out),
        // It speaks to stderr, from many threads.
        Command::Serve(args) => commands::serve::run(args),
        Command::Nodes(args) => commands::nodes::run(&args, &mut out),
        Command::Drain(args) => commands::nodes::drain(&args, &mut out),
        Command::Dataset(args) => commands::dataset::run(&args, &mut out),
        Command::Datastore(args) => commands::datastore::run(&args, &mut out),
        Command::Doctor(args) => commands::doctor::run(args, &mut out),
        Command::JobFile(args) => commands::job_file::run(&args, &mut out),
        Command::Completion(args) => commands::completion::run(&args, Cli::command(), &mut out),
        Command::Man(args) => commands::man::run(&args, Cli::command(), &mut out),
    };
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => fail(&failure),
    }
}

/// clap's own text, with an exit code of our table.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stream leaves nobody to tell.
    let _ = error.print();
    match error.use_stderr() {
        true => report::ExitCode::Usage.into(),
        false => report::ExitCode::Completed.into(),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    let mut text = Vec::new();
    failure.print(&mut text).expect("a vector takes everything");
    let mut err = io::stderr().lock();
    if err.is_terminal() {
        // What a job left of its progress bar must not run into the message.
        let _ = err.write_all(b"\r");
    }
    let _ = err.write_all(&text);
    failure.exit_code().into()
}
