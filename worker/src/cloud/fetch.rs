//! The threads of a node that bring the files of the next mini-batches here while others run.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::items::{ItemsError, Slice, WHOLE};
use fanfold_shared::job::InputType;
use fanfold_shared::message::NodeEvent;

use super::bring::{Part, Stopped, Waiter, Want};
use super::{Cloud, Local};
use crate::node::{Node, Order};
use crate::work::Work;

/// Mini-batches whose files are brought at once.
const THREADS: usize = 4;
/// Between two words about bytes that came.
const SAY: Duration = Duration::from_secs(5);
/// How long a node that leaves waits for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the beginning of a table that are brought with each slice: its first row shows what its columns are.
const BEGINNING: u64 = 64 << 10;

/// The threads; they end when the node takes no more work.
pub struct Fetchers(mpsc::Receiver<()>);

impl Fetchers {
    /// Starts them.
    ///
    /// # Errors
    /// None can be started.
    pub fn start(node: &Arc<Node>, cloud: &Arc<Cloud>) -> std::io::Result<Fetchers> {
        let (alive, ended) = mpsc::channel::<()>();
        let said = Arc::new(Mutex::new((Instant::now(), 0)));
        for index in 0..THREADS {
            let (node, cloud, said, alive) = (node.clone(), cloud.clone(), said.clone(), alive.clone());
            let run = move || {
                let _alive = alive;
                Fetcher { node: &node, cloud: &cloud, index, said: &said }.run();
            };
            match thread::Builder::new().name(format!("fetch{index}")).spawn(run) {
                Ok(_) => {}
                // One does it, too.
                Err(_) if index > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Fetchers(ended))
    }

    /// Waits for their end, once the node takes no more work. False: one still waits for a server, and is left behind.
    pub fn end(self) -> bool {
        self.0.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected)
    }
}

struct Fetcher<'a> {
    node: &'a Node,
    cloud: &'a Cloud,
    index: usize,
    said: &'a Mutex<(Instant, u64)>,
}

impl Waiter for Fetcher<'_> {
    fn is_over(&self) -> bool {
        self.node.order() != Order::Work
    }

    fn came(&self, bytes: u64) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.1 += bytes;
        if said.0.elapsed() >= SAY {
            let bytes = std::mem::take(&mut said.1);
            said.0 = Instant::now();
            drop(said);
            self.node.say(NodeEvent::Downloading { bytes });
        }
    }

    fn held_up(&self, why: Option<&str>) {
        // Behind the slots, which say the same of themselves.
        let slot = self.node.plan.processes + self.index as u32;
        self.node.say(NodeEvent::HeldUp { slot, why: why.map(str::to_string) });
    }
}

impl Fetcher<'_> {
    fn run(&self) {
        let work: &Work = &self.node.work;
        loop {
            let trial = self.turn();
            let Some(piece) = work.next_to_fetch() else { return };
            if trial.is_none() && self.cloud.refusals.is_in_doubt() {
                // That has come up while this thread waited for work.
                work.not_now(piece);
                continue;
            }
            let mini_batch = piece.mini_batches.start;
            let local = match piece.hold.is_open(mini_batch) {
                false => Ok(None),
                true => self.fetch(mini_batch, piece.hold.part.as_ref()),
            };
            match local {
                Ok(local) => work.fetched(piece, local.map(Arc::new)),
                Err(why) => {
                    if let Some(why) = why {
                        self.node.broken(why);
                    }
                    work.not_fetched(piece);
                }
            }
        }
    }

    /// Where nothing was given out to this node: waits until it may be tried again, and says so.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let refusals = &self.cloud.refusals;
        if !refusals.is_in_doubt() {
            return None;
        }
        self.held_up(Some("a pause, as what it asks for is refused; then it is tried again"));
        let turn = refusals.turn(&|| self.is_over());
        self.held_up(None);
        turn
    }

    /// Brings the files of a mini-batch here; None: it has none in the cloud. An error without a text: the node is to end.
    fn fetch(&self, mini_batch: u64, part: Option<&Range<u64>>) -> Result<Option<Local>, Option<String>> {
        let wants = self.wants(mini_batch, part).map_err(|error| Some(error.to_string()))?;
        let Some(wants) = wants else { return Ok(None) };
        match self.cloud.bring(&wants, self) {
            Ok(local) => match &local.refused {
                Some(why) if self.cloud.refusals.refused() => Err(Some(format!(
                    "it is refused what lies in the cloud: {why}. Are its credentials still valid, and may they read? When that is mended, \
                     `fanfold retry --failed` goes on"
                ))),
                _ => Ok(Some(local)),
            },
            // Whole, then.
            Err(Stopped::NoParts) => self.fetch(mini_batch, part),
            Err(Stopped::Over) => Err(None),
            Err(Stopped::Cache(error)) => {
                Err(Some(format!("the cache of files can't be used: {error}: {}", error.source)))
            }
        }
    }

    fn wants(&self, mini_batch: u64, bisected: Option<&Range<u64>>) -> Result<Option<Vec<Want>>, ItemsError> {
        let (items, kind) = (&self.node.items, self.node.plan.input_type);
        let (input, range) = items.split().mini_batch(mini_batch);
        let slice = match kind {
            InputType::Files => None,
            _ => items.slice(mini_batch)?,
        };
        if let Some(slice) = slice.as_ref().filter(|slice| slice.is_group()) {
            return self.wants_of_group(slice, range.start);
        }
        let Some(client) = self.cloud.input(&input.name) else { return Ok(None) };
        // Of a table the slice is read as a whole, whatever part of its rows is run.
        let entries = slice.as_ref().map_or_else(|| bisected.cloned().unwrap_or(range), Slice::entries);
        let known = self.node.fingerprints.get(entries.clone())?;
        let mut wants = Vec::with_capacity(known.len());
        // Scripts take labels from the folder that a file lies in: the input's own has its name here, too.
        let root = match client.uri().file_name() {
            "" => String::new(),
            name => format!("{name}/"),
        };
        items.for_each(entries.clone(), |entry, name| {
            let known = known[(entry - entries.start) as usize];
            let client = client.at(&OsStr::from_bytes(name).to_string_lossy());
            let sliced = slice.as_ref().filter(|_| self.cloud.sends_parts(&client));
            let shows = entry == 0 || !self.node.plan.header_in_first_file();
            let part = sliced.and_then(|slice| match kind {
                InputType::Parquet if slice.part.end != WHOLE => self.cloud.groups(&client, known, slice.part.clone()),
                _ => part(slice, kind, shows),
            });
            wants.push(Want { client, name: [root.as_bytes(), name].concat(), known, part });
        })?;
        Ok(Some(wants))
    }
}

impl Fetcher<'_> {
    /// What is wanted for rows that were gathered by columns, of which the first has this ordinal: of each Parquet file the row groups that they
    /// are in. None: nothing, they are copies, or on this machine.
    fn wants_of_group(&self, slice: &Slice, first: u64) -> Result<Option<Vec<Want>>, ItemsError> {
        let items = &self.node.items;
        if self.node.plan.input_type != InputType::Parquet {
            return Ok(None);
        }
        let (mut wants, mut next) = (Vec::new(), first);
        for segment in items.group(slice)?.segments {
            let entry = u64::from(segment.entry);
            let ordinals = next..next + segment.rows;
            next = ordinals.end;
            let Some(client) = self.cloud.input(&items.input_of(entry).name) else { continue };
            let (name, known) = (items.item(entry)?, self.node.fingerprints.get(entry..entry + 1)?[0]);
            let client = client.at(&OsStr::from_bytes(&name).to_string_lossy());
            let footer = self.cloud.sends_parts(&client).then(|| self.cloud.footer(&client, known)).flatten();
            let mut part = None;
            if let Some(footer) = footer {
                let mut groups = BTreeSet::new();
                items.for_each_origin(ordinals, |origin| _ = groups.insert(footer.group_of(origin.row)))?;
                part = footer.part(groups);
            }
            // Files of several inputs may have one name.
            let name = [format!("{entry}/").as_bytes(), &name].concat();
            wants.push(Want { client, name, known, part });
        }
        Ok((!wants.is_empty()).then_some(wants))
    }
}

/// What of a table's file is wanted for a slice; None: all of it. `shows`: its beginning shows what its columns are.
fn part(slice: &Slice, kind: InputType, shows: bool) -> Option<Part> {
    if slice.part.end == WHOLE || kind == InputType::Parquet {
        return None;
    }
    let header = u64::from(slice.header_len);
    // The first slice begins with the first row itself.
    let beginning = match kind.is_csv() && shows && slice.part.start > header {
        true => (header + BEGINNING).min(slice.part.start),
        false => 0,
    };
    Some(Part { header, beginning, rows: vec![slice.part.clone()] })
}
