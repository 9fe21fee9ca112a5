//! The working directory of a node's processes: its own copy of the snapshot, with the job's models in it.
//!
//! It is built under another name, synced and renamed: it is complete exactly if it is there. One that is there is
//! kept, with whatever the script wrote into it, so that what a script caches there outlives a pause of the job.
//!
//! Models appear as `azureml-models/<name>/1/<file or folder>`, which is where `Model.get_model_path(name)` of the
//! original looks when it is offline. They are links: a model is not copied for every node.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fanfold_shared::durable;
use fanfold_shared::failpoint;
use fanfold_shared::ids::ScriptNumber;
use fanfold_shared::layout::{JobDir, NodeDir};
use fanfold_shared::report::{During, ExitCode, IoError, Report};

/// What scripts of the original expect below the working directory.
const MODELS: &str = "azureml-models";

/// Every model of a job is its first version.
const VERSION: &str = "1";

/// A working directory that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workdir {
    /// Where the processes run.
    pub path: PathBuf,
    /// `AZUREML_MODEL_DIR`: the folder that contains the model's own file or folder; with several models, the folder of
    /// them all. None without models.
    pub model_dir: Option<PathBuf>,
}

/// What can keep a node from having a working directory.
#[derive(Debug, thiserror::Error)]
pub enum WorkdirError {
    /// A model is not where the job says.
    #[error("model `{name}` is not there: `{}`", path.display())]
    ModelMissing {
        /// Its name.
        name: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Report for WorkdirError {
    fn exit_code(&self) -> ExitCode {
        match self {
            WorkdirError::ModelMissing { .. } => ExitCode::Usage,
            WorkdirError::Io(error) => error.exit_code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            WorkdirError::ModelMissing { .. } => Some("correct its path under `models` in the job file".into()),
            WorkdirError::Io(error) => error.hint(),
        }
    }
}

/// Makes sure that `node` has its working directory for `script`, a copy of the job's snapshot (which must be complete), and that
/// `models` (name to absolute path) are linked in it. The node's processes must not run yet.
pub fn prepare(
    job: &JobDir,
    script: ScriptNumber,
    node: &NodeDir,
    models: &BTreeMap<String, PathBuf>,
) -> Result<Workdir, WorkdirError> {
    let path = node.working_dir(script);
    if !path.is_dir() {
        let building = durable::building(&path);
        remove(&building)?;
        fs::create_dir_all(&building).during("create", &building)?;
        copy_tree(&job.snapshot(script), &building)?;
        failpoint!("workdir_copied");
        durable::sync_tree(&building)?;
        fs::rename(&building, &path).during("rename", &building)?;
        durable::sync_dir(durable::parent(&path))?;
        failpoint!("workdir_renamed");
    }
    for (name, model) in models {
        link_model(&path.join(MODELS).join(name), name, model)?;
    }
    let all = path.join(MODELS);
    let model_dir = match models.len() {
        0 => None,
        1 => models.keys().next().map(|name| all.join(name).join(VERSION)),
        _ => Some(all),
    };
    Ok(Workdir { path, model_dir })
}

/// Copies what lies in `from` into the folder `to`. Unlike those of the snapshot, its files can be written.
fn copy_tree(from: &Path, to: &Path) -> Result<(), IoError> {
    for entry in fs::read_dir(from).during("read", from)? {
        let entry = entry.during("read", from)?;
        let (source, place) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().during("examine", &source)?;
        if kind.is_dir() {
            fs::create_dir(&place).during("create", &place)?;
            copy_tree(&source, &place)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&source).during("read", &source)?;
            symlink(target, &place).during("create", &place)?;
        } else {
            fs::copy(&source, &place).during("copy to", &place)?;
            let mode = fs::metadata(&place).during("examine", &place)?.permissions().mode();
            fs::set_permissions(&place, Permissions::from_mode(mode | 0o200)).during("change the mode of", &place)?;
        }
    }
    Ok(())
}

/// Makes `folder/1` hold a link to `model` and nothing else: the original takes the only entry there.
fn link_model(folder: &Path, name: &str, model: &Path) -> Result<(), WorkdirError> {
    let missing = || WorkdirError::ModelMissing { name: name.to_string(), path: model.to_path_buf() };
    let file_name = model.file_name().filter(|_| model.exists()).ok_or_else(missing)?;
    let version = folder.join(VERSION);
    let link = version.join(file_name);
    let alone = fs::read_dir(&version).is_ok_and(|entries| entries.count() == 1);
    if alone && fs::read_link(&link).is_ok_and(|target| target == model) {
        return Ok(());
    }
    remove(folder)?;
    fs::create_dir_all(&version).during("create", &version)?;
    symlink(model, &link).during("create", &link)?;
    Ok(())
}

/// Removes whatever lies at `path`; nothing is fine.
fn remove(path: &Path) -> Result<(), IoError> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).during("remove", path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::ids::NodeId;
    use tempfile::TempDir;

    const FIRST: ScriptNumber = ScriptNumber::FIRST;

    fn node(job: &JobDir) -> NodeDir {
        job.node(&NodeId("0".into()))
    }

    /// A job with a snapshot, as the coordinator makes it, and models beside it.
    fn job() -> (TempDir, JobDir) {
        let dir = tempfile::tempdir().unwrap();
        let job = JobDir::new(dir.path().join("job"));
        let snapshot = job.snapshot(FIRST);
        fs::create_dir_all(snapshot.join("package/empty")).unwrap();
        fs::write(snapshot.join("score.py"), "script").unwrap();
        fs::write(snapshot.join("package/tool"), "tool").unwrap();
        symlink("score.py", snapshot.join("link")).unwrap();
        fs::set_permissions(snapshot.join("score.py"), Permissions::from_mode(0o444)).unwrap();
        fs::set_permissions(snapshot.join("package/tool"), Permissions::from_mode(0o555)).unwrap();
        fs::create_dir(dir.path().join("bert")).unwrap();
        fs::write(dir.path().join("bert/weights"), "w").unwrap();
        fs::write(dir.path().join("mnist.onnx"), "m").unwrap();
        (dir, job)
    }

    fn models(dir: &TempDir, names: &[(&str, &str)]) -> BTreeMap<String, PathBuf> {
        names.iter().map(|(name, path)| (name.to_string(), dir.path().join(path))).collect()
    }

    #[test]
    fn it_is_a_copy_that_can_be_written() {
        let (_dir, job) = job();
        let work = prepare(&job, FIRST, &node(&job), &BTreeMap::new()).unwrap();
        assert_eq!(work, Workdir { path: node(&job).working_dir(FIRST), model_dir: None });
        let mode = |name: &str| fs::metadata(work.path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("score.py"), mode("package/tool")), (0o644, 0o755));
        assert_eq!(fs::read_link(work.path.join("link")).unwrap(), Path::new("score.py"));
        assert!(work.path.join("package/empty").is_dir());
        fs::write(work.path.join("score.py"), "changed").unwrap();
        assert_eq!(fs::read(job.snapshot(FIRST).join("score.py")).unwrap(), b"script");
    }

    #[test]
    fn a_complete_one_is_kept_and_a_half_built_one_is_made_anew() {
        let (_dir, job) = job();
        let building = durable::building(&node(&job).working_dir(FIRST));
        fs::create_dir_all(building.join("left-over")).unwrap();
        let work = prepare(&job, FIRST, &node(&job), &BTreeMap::new()).unwrap();
        assert!(!building.exists() && !work.path.join("left-over").exists());
        fs::write(work.path.join("cache"), "kept").unwrap();
        prepare(&job, FIRST, &node(&job), &BTreeMap::new()).unwrap();
        assert_eq!(fs::read(work.path.join("cache")).unwrap(), b"kept");
    }

    #[test]
    fn another_script_has_another_working_directory() {
        let (_dir, job) = job();
        let first = prepare(&job, FIRST, &node(&job), &BTreeMap::new()).unwrap();
        fs::write(first.path.join("cache"), "of the first").unwrap();
        fs::create_dir(job.snapshot(FIRST.next())).unwrap();
        fs::write(job.snapshot(FIRST.next()).join("score.py"), "mended").unwrap();
        let second = prepare(&job, FIRST.next(), &node(&job), &BTreeMap::new()).unwrap();
        assert_eq!(fs::read(second.path.join("score.py")).unwrap(), b"mended");
        assert!(first.path.join("cache").exists() && !second.path.join("cache").exists());
    }

    #[test]
    fn models_lie_where_the_original_looks() {
        let (dir, job) = job();
        let one = prepare(&job, FIRST, &node(&job), &models(&dir, &[("mnist", "mnist.onnx")])).unwrap();
        let work = &one.path;
        assert_eq!(one.model_dir.as_deref(), Some(&*work.join("azureml-models/mnist/1")));
        assert_eq!(fs::read(work.join("azureml-models/mnist/1/mnist.onnx")).unwrap(), b"m");

        let two =
            prepare(&job, FIRST, &node(&job), &models(&dir, &[("mnist", "mnist.onnx"), ("bert", "bert")])).unwrap();
        assert_eq!(two.model_dir.as_deref(), Some(&*work.join("azureml-models")));
        assert_eq!(fs::read(work.join("azureml-models/bert/1/bert/weights")).unwrap(), b"w");

        // Whatever else came to lie there would make the lookup ambiguous.
        fs::write(work.join("azureml-models/mnist/1/stray"), "").unwrap();
        prepare(&job, FIRST, &node(&job), &models(&dir, &[("mnist", "bert")])).unwrap();
        let names: Vec<_> = fs::read_dir(work.join("azureml-models/mnist/1")).unwrap().flatten().collect();
        assert_eq!(names.iter().map(|entry| entry.file_name()).collect::<Vec<_>>(), ["bert"]);

        let error = prepare(&job, FIRST, &node(&job), &models(&dir, &[("lost", "nowhere.bin")])).unwrap_err();
        assert!(error.to_string().starts_with("model `lost` is not there: `"), "{error}");
    }
}
