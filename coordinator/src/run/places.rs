//! Where the output of a job goes, and what its only node is called.

use std::path::PathBuf;

use fanfold_shared::ids::NodeId;
use fanfold_shared::job::{JobSpec, OutputAction};
use fanfold_shared::layout::JobDir;
use fanfold_shared::uri::Uri;

/// The output directory of a job.
pub fn output_dir(spec: &JobSpec, dir: &JobDir) -> PathBuf {
    spec.output.clone().unwrap_or_else(|| dir.default_output())
}

/// The output file under its final name; None for `summary_only`.
pub fn output_file(spec: &JobSpec, dir: &JobDir) -> Option<PathBuf> {
    (spec.output_action == OutputAction::AppendRow).then(|| output_dir(spec, dir).join(&spec.append_row_file_name))
}

/// Where in the cloud the output file goes at the end, or with `summary_only` what its script stores; None: nowhere.
pub fn output_uri(spec: &JobSpec) -> Option<Uri> {
    let uri = spec.output_uri.as_ref()?;
    Some(match spec.output_action {
        OutputAction::AppendRow => uri.join(&spec.append_row_file_name),
        OutputAction::SummaryOnly => uri.clone(),
    })
}

/// The only node of an embedded job.
pub fn node_id() -> NodeId {
    NodeId("0".into())
}
