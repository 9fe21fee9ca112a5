//! Registered datasets among the inputs of a job.

use fanfold_shared::job::{
    Contents, Dataset, DatasetId, DatasetPath, DatasetRef, Datasets, Dtypes, InputType, JobSpec, NoDatasets, ReadCsv,
    differences, load, load_resolved,
};
use fanfold_shared::report::{ExitCode, Failure, Report};
use fanfold_shared::uri::Uri;

use crate::folder::Folder;

#[derive(Debug, Default)]
struct Registered(Vec<Dataset>);

#[derive(Debug, thiserror::Error)]
#[error("`{0}` has no version {1}")]
struct NoVersion(String, u32);

impl Report for NoVersion {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("its versions are 1 and 2".into())
    }
}

impl Datasets for Registered {
    fn find(&self, wanted: &DatasetRef) -> Result<Option<Dataset>, Failure> {
        let all: Vec<&Dataset> = self.0.iter().filter(|dataset| dataset.id.name == wanted.name).collect();
        let found = all.iter().rev().find(|dataset| wanted.version.is_none_or(|version| dataset.id.version == version));
        match (found, wanted.version) {
            (None, Some(version)) if !all.is_empty() => Err(NoVersion(wanted.name.clone(), version).into()),
            _ => Ok(found.map(|dataset| (*dataset).clone())),
        }
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|dataset| dataset.id.name.clone()).collect()
    }

    fn object(&self, _: &Uri, _: u64) -> Result<Option<Vec<u8>>, Failure> {
        Ok(None)
    }
}

fn dataset(name: &str, version: u32, kind: InputType, paths: &[&str]) -> Dataset {
    let part = |path: &&str| DatasetPath {
        path: path.to_string(),
        contents: Contents { files: 3, bytes: 40, fingerprint: format!("{version:064}") },
    };
    Dataset {
        id: DatasetId { name: name.into(), version },
        description: None,
        input_type: kind,
        read_csv: kind.is_csv().then(|| ReadCsv { header: false, ..ReadCsv::new(';') }),
        paths: paths.iter().map(part).collect(),
        created: 0,
        created_by: "me@box1".into(),
    }
}

fn registered() -> Registered {
    Registered(vec![
        dataset("iris", 1, InputType::Csv, &["/old/iris"]),
        dataset("iris", 2, InputType::Csv, &["/data/iris"]),
        dataset("photos", 1, InputType::Files, &["/data/a", "/data/b/*.png"]),
        Dataset { read_csv: Some(ReadCsv::new(',')), ..dataset("tulips", 1, InputType::Csv, &["/data/tulips"]) },
    ])
}

#[track_caller]
fn spec(folder: &Folder, more: &str) -> JobSpec {
    folder.parse_among(more, &registered()).unwrap_or_else(|errors| panic!("refused:\n{errors}"))
}

fn inputs(spec: &JobSpec) -> Vec<(String, String, String)> {
    let told = spec.inputs.iter().map(|input| {
        let dataset = input.dataset.as_ref().map(|from| from.dataset.to_string()).unwrap_or_default();
        (input.name.clone(), input.path.clone(), dataset)
    });
    told.collect()
}

fn one(name: &str, path: &str, dataset: &str) -> (String, String, String) {
    (name.into(), path.into(), dataset.into())
}

#[test]
fn a_dataset_becomes_its_paths_and_brings_its_kind() {
    let folder = Folder::new();
    for newest in ["iris", "iris@latest", "iris:2"] {
        let spec = spec(&folder, &format!("inputs: [{newest}]\n"));
        assert_eq!(inputs(&spec), [one("input0", "/data/iris", "iris:2")]);
        assert_eq!((spec.input_type, spec.read_csv.sep, spec.read_csv.header), (InputType::Csv, ';', false));
        assert_eq!(spec.mini_batch_size.to_string(), "1MB", "it is a table");
    }
    let old = spec(&folder, "inputs: {train: 'iris:1'}\ninput_type: csv\nread_csv: {dtype: str}\n");
    assert_eq!(inputs(&old), [one("train", "/old/iris", "iris:1")]);
    let given = Dtypes::All("str".into());
    assert_eq!((old.read_csv.sep, old.read_csv.dtype), (';', given), "what is given goes on top");
    let beside = spec(&folder, "inputs: [labels.txt, iris]\n");
    assert_eq!(beside.input_type, InputType::Csv, "a path beside it is read as it is");
}

#[test]
fn a_dataset_with_several_paths_becomes_several_inputs() {
    let folder = Folder::new();
    let several = spec(&folder, "inputs: {all: photos, more: images}\narguments: ['${inputs.all-2}']\n");
    let more = folder.path("images").to_str().unwrap().to_string();
    let expected =
        [one("all-1", "/data/a", "photos:1"), one("all-2", "/data/b/*.png", "photos:1"), one("more", &more, "")];
    assert_eq!(inputs(&several), expected);
    for (more, message) in [
        ("inputs: {all: photos, all-1: images}\n", "two inputs called `all-1`"),
        ("inputs: {all: photos}\narguments: ['${inputs.all}']\n", "${inputs.all}"),
    ] {
        let errors = folder.parse_among(more, &registered()).unwrap_err();
        assert_eq!(errors.errors.len(), 1, "{errors}");
        assert!(errors.to_string().contains(message), "{errors}");
    }
}

#[test]
fn what_lies_there_goes_before_a_dataset_of_that_name() {
    let folder = Folder::new();
    folder.write("iris/a.csv", "");
    let path = folder.path("iris").to_str().unwrap().to_string();
    let there = spec(&folder, "inputs: [iris]\n");
    assert_eq!((inputs(&there), there.input_type), (vec![one("input0", &path, "")], InputType::Files));
    assert_eq!(inputs(&spec(&folder, "inputs: ['iris@latest']\n")), [one("input0", "/data/iris", "iris:2")]);
}

#[test]
fn what_is_not_registered_or_does_not_fit_is_refused() {
    let folder = Folder::new();
    for (more, key, message, hint) in [
        ("inputs: ['iris:9']\n", "inputs[0]", "`iris` has no version 9", "its versions are 1 and 2"),
        (
            "inputs: ['irsi:2']\n",
            "inputs[0]",
            "no dataset is registered as `irsi`",
            "did you mean the dataset `iris:2`?",
        ),
        (
            "inputs: [iirs]\n",
            "inputs[0]",
            "no file, folder or registered dataset `iirs`",
            "did you mean the dataset `iris`?",
        ),
        ("inputs: ['cats:1']\n", "inputs[0]", "no dataset is registered as `cats`", "registered are `iris`"),
        ("inputs: [imags]\n", "inputs[0]", "registered dataset `imags`", "did you mean `images`?"),
        (
            "inputs: [iris]\ninput_type: parquet\n",
            "input_type",
            "`iris:2` is registered as `csv`",
            "remove `input_type`",
        ),
        (
            "inputs: [iris, photos]\n",
            "inputs[1]",
            "`photos:1` is registered as `files`, and `iris:2` as `csv`",
            "of one kind",
        ),
        ("inputs: [iris, tulips]\n", "inputs[1]", "`tulips:1` is registered with another `read_csv`", "of one kind"),
        ("input_datasets: {input0: iris}\n", "input_datasets", "must be a map of names of inputs", "{}"),
    ] {
        let errors = folder.parse_among(more, &registered()).unwrap_err();
        let error = &errors.errors[0];
        assert_eq!((errors.errors.len(), error.key.as_str()), (1, key), "{errors}");
        assert!(error.message.contains(message), "{errors}");
        assert!(error.hint.as_ref().is_some_and(|told| told.contains(hint)), "{:?}", error.hint);
    }
}

#[test]
fn a_resolved_job_remembers_the_version() {
    let folder = Folder::new();
    for more in ["inputs: [iris]\n", "inputs: {all: photos}\n"] {
        let spec = spec(&folder, more);
        folder.write("jobs/job.yaml", &spec.to_yaml());
        // Nothing is registered any more, and nothing of it is needed.
        let back = load_resolved(&folder.path("jobs/job.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(back, spec, "{}", spec.to_yaml());
    }
    folder.write("data/iris.csv", "1\n");
    let path = folder.path("data/iris.csv");
    let registered = Registered(vec![dataset("iris", 7, InputType::Csv, &[path.to_str().unwrap()])]);
    let spec = folder.parse_among("inputs: [iris]\n", &registered).unwrap();
    folder.write("jobs/job.yaml", &spec.to_yaml());
    assert_eq!(load(&folder.path("jobs/job.yaml"), &[], &NoDatasets).unwrap(), spec);
}

#[test]
fn another_version_makes_another_job() {
    let folder = Folder::new();
    let old = spec(&folder, "inputs: ['iris:2']\n");
    assert_eq!(differences(&old, &spec(&folder, "inputs: [iris]\n")), []);
    let newer = Registered(vec![dataset("iris", 3, InputType::Csv, &["/data/iris"])]);
    let new = folder.parse_among("inputs: [iris]\n", &newer).unwrap();
    let different = differences(&old, &new);
    assert_eq!((different.len(), different[0].key), (1, "inputs"));
    assert_eq!(different[0].new, "{input0: \"/data/iris (iris:3)\"}");
}
