//! `fanfold datastore`: which datastores this machine has, and whether they let it in. No secret is shown.

use std::io::Write;

use clap::Subcommand;
use fanfold_shared::report::{ExitCode, Failure, Result};
use fanfold_shared::uri::Uri;
use fanfold_store::datastores::Datastore;
use fanfold_store::{Client, Datastores, Next, Object, StoreError, Stores, asked};
use serde_json::{Value, json};

use super::written;
use crate::terminal::{self, Align, Table};

/// The version of what `--json` writes.
const VERSION: u32 = 1;

/// What `datastore` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the datastores of this machine: where they are, and with which credentials they are asked
    List {
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Try whether a datastore can be listed and read
    Check {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// What to look at below it; of a web server a file
        #[arg(value_name = "PATH", default_value = "")]
        path: String,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// The file of datastores can't be used; a datastore can't be listed or read.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let datastores = Datastores::load()?;
    if let Some(warning) = &datastores.warning {
        terminal::tell(&format!("warning: {warning}"));
    }
    match &args.verb {
        Verb::List { json } => list(&datastores, *json, out),
        Verb::Check { name, path, json } => check(datastores, (name, path), *json, out),
    }
}

fn list(datastores: &Datastores, as_json: bool, out: &mut dyn Write) -> Result<ExitCode> {
    if as_json {
        let entries: Vec<Value> = datastores.entries.iter().map(|(name, datastore)| about(name, datastore)).collect();
        let all = json!({ "version": VERSION, "file": datastores.path, "datastores": entries });
        return Ok(written(writeln!(out, "{all:#}"))?);
    }
    if datastores.entries.is_empty() {
        terminal::tell(&format!("no datastores: `{}` is where they belong", datastores.path.display()));
        return Ok(ExitCode::Completed);
    }
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("TYPE", Align::Left),
        ("WHERE", Align::Left),
        ("CREDENTIALS", Align::Left),
    ]);
    for (name, datastore) in &datastores.entries {
        table.row([name.clone(), datastore.kind().into(), datastore.place(), datastore.credential_text()]);
    }
    Ok(written(table.write(out))?)
}

fn about(name: &str, datastore: &Datastore) -> Value {
    json!({
        "name": name,
        "type": datastore.kind(),
        "where": datastore.place(),
        "credentials": datastore.credential_text(),
    })
}

fn check(datastores: Datastores, (name, path): (&str, &str), as_json: bool, out: &mut dyn Write) -> Result<ExitCode> {
    let path = path.trim_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    let uri = Uri::parse(&format!("datastore://{name}{slash}{path}")).map_err(|error| Failure::from(BadName(error)))?;
    let client = Stores::new(datastores)?.open(&uri)?;
    let found = look(&client)?;
    let credentials = asked(client.credentials());
    Ok(written(match as_json {
        true => {
            let all = json!({ "version": VERSION, "uri": uri.to_string(), "found": found, "credentials": credentials });
            writeln!(out, "{all:#}")
        }
        false => writeln!(out, "{uri}: {found} ({credentials})"),
    })?)
}

/// What is there, as somebody who may list and read sees it.
fn look(client: &Client) -> Result<String, StoreError> {
    if !client.lists() {
        if client.uri().path().is_empty() {
            return Ok("a web server; name a file to try whether it can be read".into());
        }
        let found = client.head()?;
        return Ok(format!("can be read, {} bytes", found.size));
    }
    let mut first: Option<Object> = None;
    client.list(&mut |object| {
        first = Some(object);
        Ok::<_, StoreError>(Next::Stop)
    })?;
    match first {
        None => Ok("can be listed, and is empty".into()),
        Some(object) => {
            // Listing and reading are two rights.
            client.at(&object.path).get_range(0..object.size.min(1), None)?;
            Ok(format!("can be listed and read, for example `{}`", object.path))
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no datastore can be called so: {0}")]
struct BadName(fanfold_shared::uri::UriError);

impl fanfold_shared::report::Report for BadName {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(self.0.hint.clone())
    }
}
