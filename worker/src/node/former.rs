//! What a former run of a node, whose program died, has left to say: the pages of its slots.

use std::fs;
use std::path::PathBuf;

use fanfold_shared::layout::NodeDir;
use fanfold_shared::report::{During, Result};

use crate::slot::page;

/// Mini-batches that the pages of a former run of this node show as running.
pub fn left_running(node: &NodeDir) -> Vec<page::LeftRunning> {
    let mut left: Vec<_> = pages(node).filter_map(|path| page::left_running(&path)).collect();
    left.sort_by_key(|left| left.mini_batch);
    left.dedup_by_key(|left| left.mini_batch);
    left
}

/// Forgets the pages of a former run: what they said is accounted for.
///
/// # Errors
/// They can't be removed.
pub fn forget_pages(node: &NodeDir) -> Result<()> {
    for path in pages(node) {
        fs::remove_file(&path).during("remove", &path)?;
    }
    Ok(())
}

/// The pages that lie there; a node that never was has none.
fn pages(node: &NodeDir) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(node.root()).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "page"))
}
