//! What a user should know of the datasets of a job: that data changed, that a name means something else.

use std::path::{Path, PathBuf};

use fanfold_shared::job::{Contents, Datasets, FromDataset, JobSpec, is_dataset_name};
use fanfold_shared::text::{counted, size};

use crate::prepare::{Cancel, contents};

/// A line for each input whose data is not what was registered. Directories in `excluded` are the job's own. What can't be looked
/// at is told by whoever lists it.
pub fn changed(spec: &JobSpec, excluded: &[PathBuf], cancel: &Cancel<'_>) -> Vec<String> {
    let note = |input: &fanfold_shared::job::Input| {
        let FromDataset { dataset, contents: then, path } = input.dataset.as_ref()?;
        let now = contents(&input.name, path.as_ref().unwrap_or(&input.path), excluded, cancel).ok()?;
        let difference = difference(then, &now)?;
        let advice = format!("`fanfold dataset register {} … --new-version` registers it as it is now", dataset.name);
        Some(format!(
            "input `{}`: the data of `{dataset}` changed since it was registered: {difference}; {advice}",
            input.name
        ))
    };
    // Inputs that one `MLTable` names have one note.
    let of_others = |(at, input): &(usize, &fanfold_shared::job::Input)| {
        let path = |input: &fanfold_shared::job::Input| input.dataset.as_ref().and_then(|from| from.path.clone());
        path(input).is_none_or(|own| !spec.inputs[..*at].iter().any(|other| path(other).as_ref() == Some(&own)))
    };
    spec.inputs.iter().enumerate().filter(of_others).filter_map(|(_, input)| note(input)).collect()
}

fn difference(then: &Contents, now: &Contents) -> Option<String> {
    let told = |contents: &Contents| format!("{} ({})", counted(contents.files, "file"), size(contents.bytes));
    if then == now {
        return None;
    }
    Some(match (then.files, then.bytes) == (now.files, now.bytes) {
        true => format!("{} as before, renamed or written since", told(now)),
        false if then.files == now.files && size(then.bytes) == size(now.bytes) => {
            format!("{} then, {} bytes more or less now", told(then), then.bytes.abs_diff(now.bytes))
        }
        false => format!("{} then, {} now", told(then), told(now)),
    })
}

/// A line for each input that is a path in `base`, the folder of the job file, and would be a dataset if nothing lay there.
pub fn shadowed(spec: &JobSpec, base: &Path, datasets: &dyn Datasets) -> Vec<String> {
    let names = |input: &&fanfold_shared::job::Input| {
        let path = Path::new(&input.path);
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_dataset_name(name))?;
        (input.dataset.is_none() && path.parent() == Some(base)).then(|| (input.name.clone(), name.to_string()))
    };
    let candidates: Vec<_> = spec.inputs.iter().filter_map(|input| names(&input)).collect();
    if candidates.is_empty() {
        return Vec::new();
    }
    let registered = datasets.names();
    let note = |(input, name): (String, String)| {
        let text = format!(
            "input `{input}`: `{name}` is what lies beside the job file; `{name}@latest` is the dataset of that name"
        );
        registered.contains(&name).then_some(text)
    };
    candidates.into_iter().filter_map(note).collect()
}
