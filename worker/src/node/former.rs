//! What a former run of a node, whose program died, has left to say: the pages of its slots.

use std::fs;
use std::path::PathBuf;

use fanfold_shared::ids::NodeId;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, Result};

use crate::slot::page;

/// Mini-batches that the pages of a former run of this node show as running.
pub fn left_running(job: &JobDir, node: &NodeId) -> Vec<page::LeftRunning> {
    let mut left: Vec<_> = pages(job, node).filter_map(|path| page::left_running(&path)).collect();
    left.sort_by_key(|left| left.mini_batch);
    left.dedup_by_key(|left| left.mini_batch);
    left
}

/// Forgets the pages of a former run: what they said is accounted for.
///
/// # Errors
/// They can't be removed.
pub fn forget_pages(job: &JobDir, node: &NodeId) -> Result<()> {
    for path in pages(job, node) {
        fs::remove_file(&path).during("remove", &path)?;
    }
    Ok(())
}

/// The pages that lie there; a node that never was has none.
fn pages(job: &JobDir, node: &NodeId) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(job.node(node)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "page"))
}
