//! Hands work to a process: enough that a short `run()` never waits, little enough that a long one makes nothing wait
//! behind it.
//!
//! What lies in a process unstarted is about 10 ms of work, or one mini-batch where they take longer. So while runs are
//! short a system call carries hundreds of them, and when they are long nothing is queued that another slot could run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fanfold_shared::items::{ItemsError, Slice, check};
use fanfold_shared::job::InputType;
use fanfold_shared::message::ItemError;
use fanfold_shared::split::SplitInput;
use fanfold_shared::text::one_line;

use super::current::{Current, Held};
use super::protocol::{self, HandOver};
use super::{groups, keys};
use crate::cloud::Local;
use crate::node::Node;
use crate::work::Piece;

/// The work that may wait in a process.
const QUEUED_NS: f64 = 10e6;
/// The most mini-batches in a frame.
const MOST: u64 = 1024;
/// The most bytes of item names in a frame, roughly.
const FRAME_BYTES: usize = 1 << 20;

/// What was done with the work that was taken.
pub struct Fed {
    /// Mini-batches handed to the process.
    pub handed: usize,
    /// Mini-batches of which nothing can be read.
    pub unreadable: Vec<Held>,
    /// Attempts that have failed as nothing is given out to this machine, and why.
    pub refused: Vec<(Held, String)>,
}

/// Takes work for a process that has room, and puts it on its way. Nothing to do: nothing is handed over.
///
/// # Errors
/// The item list can't be read: a text for the user.
pub fn hand_over(node: &Node, slot: usize, current: &mut Current) -> Result<Fed, String> {
    let mut fed = Fed { handed: 0, unreadable: Vec::new(), refused: Vec::new() };
    // Frames that the pipe has not taken yet are enough.
    if current.process.unsent() {
        return Ok(fed);
    }
    let wanted = wanted(current.estimate_ns);
    let holds = current.held.len() as u64;
    if holds > wanted {
        return Ok(fed);
    }
    let mut frame = Frame::default();
    while frame.mini_batches.len() < wanted as usize && frame.items.len() < FRAME_BYTES {
        let spare = holds > 0 || !frame.mini_batches.is_empty();
        let Some(piece) = node.work.take(slot, wanted - frame.mini_batches.len() as u64, spare) else { break };
        frame.add(node, piece, &mut fed).map_err(|error| error.to_string())?;
    }
    if !frame.mini_batches.is_empty() {
        fed.handed = frame.mini_batches.len();
        current.page.set_alone(frame.held.iter().all(|held| held.hold.alone));
        protocol::run(current.process.outbox(), &frame.mini_batches, &frame.items);
        current.held.extend(frame.held);
        current.process.send();
    }
    Ok(fed)
}

/// Mini-batches in a frame: what takes about as long as may be queued.
fn wanted(estimate_ns: Option<f64>) -> u64 {
    estimate_ns.map_or(1, |estimate| ((QUEUED_NS / estimate.max(1.0)) as u64).clamp(1, MOST))
}

#[derive(Default)]
struct Frame {
    mini_batches: Vec<HandOver>,
    held: Vec<Held>,
    items: Vec<u8>,
}

impl Frame {
    fn add(&mut self, node: &Node, piece: Piece, fed: &mut Fed) -> Result<(), ItemsError> {
        let split = node.items.split();
        for mini_batch in piece.mini_batches {
            // Answered by a copy in the meantime.
            if !piece.hold.is_open(mini_batch) {
                continue;
            }
            let (input, whole) = split.mini_batch(mini_batch);
            let part = piece.hold.part.clone();
            let items = part.clone().unwrap_or(whole.clone());
            let (hold, local) = (piece.hold.clone(), piece.hold.local(mini_batch));
            let mut held = Held { mini_batch, items, unreadable: Vec::new(), hold, copied: false, local };
            if let Some(why) = held.local.as_ref().and_then(|local| local.refused.clone()) {
                fed.refused.push((held, why));
                continue;
            }
            let before = self.items.len();
            let root = Path::new(&input.root);
            let slice = node.items.slice(mini_batch)?;
            let group = slice.as_ref().filter(|slice| slice.is_group()).map(|slice| node.items.group(slice));
            let group = group.transpose()?;
            if let Some(part) = &part {
                let text = format!("{} {}", part.start - whole.start, part.end - whole.start);
                self.items.extend_from_slice(text.as_bytes());
                self.items.push(node.plan.input_type.separator());
            }
            let before_key = self.items.len();
            match (&group, &slice) {
                (Some(group), _) => groups::add_key(group, &mut self.items),
                (None, Some(slice)) => self.add_key(node, root, slice)?,
                (None, None) => (),
            }
            let mut keys =
                slice.as_ref().and(node.plan.partition.as_ref()).map_or(0, |partition| partition.keys.len() as u64);
            let readable = match (node.plan.input_type, &slice) {
                (_, Some(_)) if group.is_some() => {
                    let group = group.as_ref().expect("as the guard says");
                    groups::add_segments(node, group, whole.start, held.local.as_deref(), &mut self.items)?
                }
                (InputType::Lines, _) => {
                    node.items.read_joined(held.items.clone(), Path::new(""), &mut self.items)?;
                    held.items.end - held.items.start
                }
                (InputType::Files, _) => match held.local.clone() {
                    Some(local) => self.add_local(&local, &mut held),
                    None => self.add_files(node, root, &mut held)?,
                },
                (_, Some(slice)) => self.add_slice(node, input, &held, slice, whole.end - whole.start)?,
                // A list of tables has slices; a mini-batch without input gets nothing, and that is as it should be.
                (_, None) => 0,
            };
            if readable == 0 && node.plan.input_type != InputType::Ranks {
                self.items.truncate(before);
                fed.unreadable.push(held);
                continue;
            }
            if node.plan.row_key
                && let Some(key) = keys::of(node, &held, slice.as_ref(), group.as_ref(), &whole)?
            {
                self.items.splice(before_key..before_key, key.into_bytes().into_iter().chain([0]));
                keys += 1;
            }
            let (attempt, leading) = (held.hold.attempt, keys + u64::from(part.is_some()));
            let items = (leading + readable) as u32;
            self.mini_batches.push(HandOver { mini_batch, items, attempt, part: part.is_some() });
            self.held.push(held);
        }
        Ok(())
    }

    /// Adds the values that a mini-batch is of, each as an item before its own.
    fn add_key(&mut self, node: &Node, root: &Path, slice: &Slice) -> Result<(), ItemsError> {
        let Some(partition) = &node.plan.partition else { return Ok(()) };
        let Some(format) = &partition.format else { return Ok(()) };
        let path = root.join(OsStr::from_bytes(&node.items.item(slice.entry.into())?));
        let values = format.values(path.as_os_str().as_bytes()).unwrap_or_default();
        for value in partition.key_values(&values) {
            self.items.extend_from_slice(value);
            self.items.push(0);
        }
        Ok(())
    }

    /// Adds where the rows of a table lie: for each file one item for the host, which reads them.
    fn add_slice(
        &mut self,
        node: &Node,
        input: &SplitInput,
        held: &Held,
        slice: &Slice,
        rows: u64,
    ) -> Result<u64, ItemsError> {
        let root = Path::new(&input.root);
        let entries = slice.entries();
        let names = node.items.read(entries.clone())?;
        let names: Vec<&[u8]> = names.split(|byte| *byte == 0).take(slice.files as usize).collect();
        let mut troubles = match held.local {
            Some(_) => Vec::new(),
            None => check(root, names.iter().copied(), &node.fingerprints.get(entries)?),
        }
        .into_iter()
        .peekable();
        for (at, name) in names.iter().enumerate() {
            let path = root.join(OsStr::from_bytes(name));
            let local = held.local.as_ref().map(|local| &local.files[at]);
            let trouble = match local {
                Some(file) => file.as_ref().err().cloned(),
                None => troubles
                    .next_if(|(place, _)| *place == at)
                    .map(|(_, trouble)| format!("`{}`: {trouble}", path.display())),
            };
            if let Some(trouble) = trouble {
                self.items.extend_from_slice(format!("!{}", one_line(&trouble, usize::MAX)).as_bytes());
            } else {
                let Slice { header_len, first_row, part, .. } = slice;
                let line = format!("{} {} {header_len} {first_row} {rows}", part.start, part.end);
                self.items.extend_from_slice(line.as_bytes());
            }
            add_about(node, &path, input.address(name), &mut self.items);
            self.items.push(b'\n');
            let path = local.and_then(|file| file.as_ref().ok()).unwrap_or(&path);
            self.items.extend_from_slice(path.as_os_str().as_bytes());
            self.items.push(0);
        }
        Ok(slice.files.into())
    }

    /// Adds the paths of files that were brought here, and notes why others can't be had.
    fn add_local(&mut self, local: &Local, held: &mut Held) -> u64 {
        let mut readable = 0;
        for (item, file) in held.items.clone().zip(&local.files) {
            match file {
                Ok(path) => {
                    self.items.extend_from_slice(path.as_os_str().as_bytes());
                    self.items.push(0);
                    readable += 1;
                }
                Err(why) => held.unreadable.push(ItemError { item, message: one_line(why, usize::MAX).to_string() }),
            }
        }
        readable
    }

    /// Adds the paths of the files that can be read, and notes why the others can't.
    fn add_files(&mut self, node: &Node, root_dir: &Path, held: &mut Held) -> Result<u64, ItemsError> {
        let names = node.items.read(held.items.clone())?;
        let names: Vec<&[u8]> =
            names.split(|byte| *byte == 0).take((held.items.end - held.items.start) as usize).collect();
        let fingerprints = node.fingerprints.get(held.items.clone())?;
        let mut troubles = check(root_dir, names.iter().copied(), &fingerprints).into_iter().peekable();
        let root = root_dir.as_os_str().as_encoded_bytes();
        let mut readable = 0;
        for (at, name) in names.into_iter().enumerate() {
            if let Some((_, trouble)) = troubles.next_if(|(place, _)| *place == at) {
                let path = root_dir.join(OsStr::from_bytes(name));
                let message = format!("`{}`: {trouble}", one_line(&path.to_string_lossy(), usize::MAX));
                held.unreadable.push(ItemError { item: held.items.start + at as u64, message });
                continue;
            }
            self.items.extend_from_slice(root);
            if root.last() != Some(&b'/') {
                self.items.push(b'/');
            }
            self.items.extend_from_slice(name);
            self.items.push(0);
            readable += 1;
        }
        Ok(readable)
    }
}

/// Adds the values that stand in the path of a file, behind a tab; and behind another one its address, if it has one.
pub(super) fn add_about(node: &Node, path: &Path, address: Option<String>, items: &mut Vec<u8>) {
    let format = node.plan.path_format.as_ref();
    if format.is_none() && address.is_none() {
        return;
    }
    let values = format.and_then(|format| format.values(path.as_os_str().as_bytes())).unwrap_or_default();
    let values: Vec<String> = values.into_iter().map(json_text).collect();
    items.extend_from_slice(format!("\t[{}]", values.join(",")).as_bytes());
    if let Some(address) = address {
        items.extend_from_slice(format!("\t{}", json_text(address.as_bytes())).as_bytes());
    }
}

/// Bytes of a path as text in JSON. What is not UTF-8 is escaped as Python decodes paths.
pub(super) fn json_text(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = serde_json::to_string(chunk.valid()).expect("text");
        text.push_str(&quoted[1..quoted.len() - 1]);
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\udc{byte:02x}")));
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_text_in_json() {
        assert_eq!(json_text(b"a\"\xffb\xc3"), r#""a\"\udcffb\udcc3""#);
        assert_eq!(json_text("é\n".as_bytes()), r#""é\n""#);
    }

    #[test]
    fn short_runs_travel_together_and_long_ones_alone() {
        assert_eq!(wanted(None), 1, "nothing is known yet");
        assert_eq!(wanted(Some(50e6)), 1);
        assert_eq!(wanted(Some(1e6)), 10);
        assert_eq!(wanted(Some(100.0)), MOST);
    }
}
