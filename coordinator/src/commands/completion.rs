//! `fanfold completion`: what a shell needs to complete verbs and options.

use std::io::Write;

use clap_complete::Shell;
use fanfold_shared::report::{ExitCode, Result};

use super::written;

/// Write the completion of a shell.
///
/// bash: `fanfold completion bash > ~/.local/share/bash-completion/completions/fanfold`; zsh: `fanfold completion zsh` into a file
/// `_fanfold` in a folder of `$fpath`; fish: `fanfold completion fish > ~/.config/fish/completions/fanfold.fish`. The next shell has
/// it; `source <(fanfold completion bash)` gives it to this one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Writes the completion of `command`, the whole command line.
///
/// # Errors
/// It can't be written.
pub fn run(args: &Args, mut command: clap::Command, out: &mut dyn Write) -> Result<ExitCode> {
    // Into memory first: clap_complete panics when a pipe breaks.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "fanfold", &mut script);
    Ok(written(out.write_all(&script))?)
}
