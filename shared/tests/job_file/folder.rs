//! A folder with what job files name: a script, inputs, a source directory.

use std::fs;
use std::path::{Path, PathBuf};

use fanfold_shared::job::{Datasets, JobFileErrors, JobSpec, NoDatasets, parse};
use fanfold_shared::report::Failure;

pub struct Folder {
    dir: tempfile::TempDir,
    pub root: PathBuf,
}

impl Folder {
    pub fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let folder = Folder { dir, root };
        for file in ["score.py", "images/a.png", "labels.txt", "model/weights", "src/main.py", "src/package/entry.py"] {
            folder.write(file, "");
        }
        folder
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn job_file(&self) -> PathBuf {
        self.root.join("job.yaml")
    }

    /// The three required keys, and `more`; a key of `more` takes the place of a required one.
    pub fn text(more: &str) -> String {
        let given = |key: &str| more.lines().any(|line| line.starts_with(&format!("{key}:")));
        let mut text = String::new();
        for line in ["name: score-images", "entry_script: score.py", "inputs: [images]"] {
            if !given(line.split(':').next().unwrap()) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text + more
    }

    pub fn parse_with(&self, more: &str, overrides: &[&str]) -> Result<JobSpec, JobFileErrors> {
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        parse(&Folder::text(more), &self.job_file(), &overrides, &NoDatasets)
    }

    pub fn parse_among(&self, more: &str, datasets: &dyn Datasets) -> Result<JobSpec, JobFileErrors> {
        parse(&Folder::text(more), &self.job_file(), &[], datasets)
    }

    pub fn parse(&self, more: &str) -> Result<JobSpec, JobFileErrors> {
        self.parse_with(more, &[])
    }

    #[track_caller]
    pub fn spec(&self, more: &str) -> JobSpec {
        self.parse(more).unwrap_or_else(|errors| panic!("refused:\n{errors}"))
    }

    #[track_caller]
    pub fn spec_with(&self, more: &str, overrides: &[&str]) -> JobSpec {
        self.parse_with(more, overrides).unwrap_or_else(|errors| panic!("refused:\n{errors}"))
    }

    #[track_caller]
    pub fn errors(&self, more: &str) -> JobFileErrors {
        self.parse(more).err().unwrap_or_else(|| panic!("accepted:\n{}", Folder::text(more)))
    }

    /// As the user sees it, with the folder cut off.
    pub fn rendered(&self, errors: JobFileErrors) -> String {
        let mut text = Vec::new();
        Failure::from(errors).print(&mut text).unwrap();
        let root = format!("{}/", self.root.display());
        String::from_utf8(text).unwrap().replace(&root, "").replace(&self.root.display().to_string(), "<folder>")
    }

    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }
}
