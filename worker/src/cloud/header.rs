//! The header of tables of which only the first has one (`header: from_first_file`): brought here once for a node, before its first process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use fanfold_shared::items::{Fingerprints, ItemReader, ItemsError, Slice, WHOLE};
use fanfold_shared::report::During;

use super::bring::Part;
use super::{Cloud, CloudError, Stopped, Want};
use crate::logs::Level;

impl Cloud {
    /// Brings the header of the first file of the list in `dir` here, or all of that file where nobody knows how long its header is: it is
    /// compressed, or has no rows. None: that file does not lie in the cloud.
    pub(super) fn bring_header(
        &self,
        dir: &Path,
        items: &ItemReader,
        cancel: &AtomicBool,
        tell: &mut dyn FnMut(Level, &str),
    ) -> Result<Option<PathBuf>, CloudError> {
        const KEY: &str = "the header of the tables";
        let Some(client) = self.inputs.get(&items.input_of(0).name) else { return Ok(None) };
        let name = items.item(0)?;
        let client = client.at(&String::from_utf8_lossy(&name));
        let known = Fingerprints::open(dir, items.entries())?.get(0..1)?[0];
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let part = header_of_first(items)?.map(|header| Part { header, beginning: 0, rows: Vec::new() });
        let mut want = Want { client, name, known, part };
        let local = match self.bring_and_tell(std::slice::from_ref(&want), KEY, cancel, tell) {
            Err(Stopped::NoParts) => {
                want.part = None;
                self.bring_and_tell(std::slice::from_ref(&want), KEY, cancel, tell)?
            }
            brought => brought?,
        };
        let path = match &local.files[0] {
            Ok(path) => path.clone(),
            Err(why) => return Err(CloudError::Side { key: KEY.into(), why: why.clone() }),
        };
        if let Some(part) = &want.part {
            // What comes behind it is a hole, which pandas would take for the first row.
            let cut = || File::options().write(true).open(&path)?.set_len(part.header);
            cut().during("write", &path)?;
        }
        self.keep(want.bytes(), local);
        Ok(Some(path))
    }
}

/// How long the header of the first file is, as far as its first slice says so.
fn header_of_first(items: &ItemReader) -> Result<Option<u64>, ItemsError> {
    if items.split().mini_batches() == 0 {
        return Ok(None);
    }
    let is_of_first = |slice: &Slice| slice.entry == 0 && slice.files == 1 && slice.part.end != WHOLE;
    Ok(items.slice(0)?.filter(is_of_first).map(|slice| u64::from(slice.header_len)))
}
