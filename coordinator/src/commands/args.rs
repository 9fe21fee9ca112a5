//! What many verbs take alike: a job, a service, keys that are set otherwise.

use std::path::PathBuf;

use fanfold_shared::report::{ExitCode, Report, Result};
use fanfold_worker::cloud::{CacheOptions, CacheSettings};

use super::client::{Client, ClientError};
use super::target::Target;
use crate::registry::Registry;

/// Where the service is. Without it, a verb is about job directories and the jobs of this user.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServiceArgs {
    /// Ask the service at this address; its token is in FANFOLD_TOKEN, or in the file that FANFOLD_TOKEN_FILE names
    #[arg(long = "service", value_name = "URL", env = "FANFOLD_SERVICE", hide_env_values = true)]
    url: Option<String>,
    /// Trust these authorities (PEM) instead of the system's, for https
    #[arg(long, value_name = "FILE", env = "FANFOLD_CA")]
    ca: Option<PathBuf>,
}

impl ServiceArgs {
    /// The service, if one is named.
    ///
    /// # Errors
    /// Its address, the token's file or the authorities can't be used.
    pub fn client(&self) -> Result<Option<Client>> {
        match self.url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => Client::new(url, self.ca.as_deref()).map(Some),
            None => Ok(None),
        }
    }

    /// The service, for a verb that needs one.
    ///
    /// # Errors
    /// As [`ServiceArgs::client`], or none is named.
    pub fn needed(&self, verb: &'static str) -> Result<Client> {
        Ok(self.client()?.ok_or(ClientError::NoService(verb))?)
    }
}

/// The job that a verb is about.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct JobArgs {
    /// A job id, the beginning of one, or a job directory
    #[arg(value_name = "JOB")]
    pub job: String,
    #[command(flatten)]
    service: ServiceArgs,
}

impl JobArgs {
    /// What is meant: a path is a job directory in any case; else it is a job of the service that is named, or of this user.
    ///
    /// # Errors
    /// As [`ServiceArgs::client`], or there is no such job of this user.
    pub fn find(&self) -> Result<Target> {
        let is_path = self.job.contains('/') || matches!(self.job.as_str(), "." | "..");
        match self.service.client()? {
            Some(client) if !is_path => Ok(Target::Service(client, self.job.clone())),
            _ => Ok(Target::Dir(Registry::of_user().find(&self.job)?)),
        }
    }
}

/// Keys of the job file that are set otherwise.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SetArgs {
    /// Set a key of the job file, e.g. `--set mini_batch_size=5`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Options of the cache, for a job whose nodes are on other machines.
#[derive(Debug, thiserror::Error)]
#[error("`--cache` and `--cache-size` are about this machine, and the job runs on the workers of a fleet")]
struct CacheElsewhere;

impl Report for CacheElsewhere {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("`fanfold-worker` takes the same options: give them there".into())
    }
}

/// Where a job that runs here keeps files at addresses. `elsewhere`: it does not run here.
///
/// # Errors
/// It does not, and it was said; or the environment says what can't be.
pub fn cache_of(options: &CacheOptions, elsewhere: bool) -> Result<CacheSettings> {
    match elsewhere {
        true if options.are_given() => Err(CacheElsewhere.into()),
        true => Ok(CacheSettings::default()),
        false => options.settings(),
    }
}
