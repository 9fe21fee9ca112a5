//! One file becomes one object: look, put on a condition, look again, record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::failpoint;
use fanfold_shared::report::{During, Result};
use fanfold_store::{Client, Over, PutError, Seen, Why};

use super::files::LocalFile;
use super::{JOB, Progress, SUM, UploadError, is_of, is_recorded};
use crate::ledger::There;
use crate::run::Orders;
use crate::run::observer::Observer;
use crate::run::prepare::Prepared;
use crate::run::until_there_is_room;

/// Files up to this size, bytes, go in one request.
const AT_ONCE: u64 = 8 << 20;
/// Bytes that are read at once for the sum.
const PIECE: usize = 1 << 20;
/// Between two tries while the service does not answer.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two looks at whether the user still waits.
const LOOK: Duration = Duration::from_millis(50);
/// How often an object may change under our hands, or the service forget the parts of one.
const CHANGES: u32 = 3;

/// What became of a file.
pub(super) enum Went {
    /// Its object is there and recorded.
    There,
    /// The user does not wait.
    Stopped,
}

/// Who is told of the progress of one file, and who says whether to go on.
struct Watch<'a> {
    observer: &'a mut Observer,
    aggregate: &'a crate::aggregate::Aggregate,
    orders: &'a Orders,
    progress: &'a Progress,
}

impl Watch<'_> {
    /// So many bytes are there; false: the user does not wait.
    fn sees(&mut self, bytes: u64) -> bool {
        self.observer.uploads(self.aggregate, &self.progress.in_words(bytes), None);
        self.orders.count() == 0
    }
}

/// A watch over `prepared`, whose parts may be used meanwhile.
macro_rules! watch {
    ($prepared:expr, $progress:expr) => {{
        let Prepared { observer, aggregate, orders, .. } = &mut *$prepared;
        Watch { observer, aggregate, orders, progress: $progress }
    }};
}

/// Uploads `file` as the object of `client`, unless it is there.
pub(super) fn one(prepared: &mut Prepared, client: &Client, file: &LocalFile, progress: &mut Progress) -> Result<Went> {
    let content = File::open(&file.path).during("open", &file.path)?;
    let sum = sum(&content, &mut || watch!(prepared, progress).sees(0)).during("read", &file.path)?;
    let Some(sum) = sum else { return Ok(Went::Stopped) };
    let job = prepared.observer.facts().id.0.clone();
    let marks = BTreeMap::from([(JOB.to_string(), job), (SUM.to_string(), sum.clone())]);
    let mut one = One { prepared, client, file, content: Arc::new(content), sum, marks };
    let went = match one.put(progress) {
        Err(Stop::Stopped) => return Ok(Went::Stopped),
        Err(Stop::Refused(error)) => return Err(error.into()),
        Err(Stop::Failed(failure)) => return Err(failure),
        Ok(()) => Went::There,
    };
    progress.files_done += 1;
    progress.bytes_done += file.len;
    Ok(went)
}

/// BLAKE3 of a file; None: nobody waits for it.
fn sum(mut content: &File, go_on: &mut dyn FnMut() -> bool) -> io::Result<Option<String>> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut asked = Instant::now();
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok(Some(hasher.finalize().to_hex().to_string())),
            Ok(length) => drop(hasher.update(&piece[..length])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if asked.elapsed() >= LOOK {
            asked = Instant::now();
            if !go_on() {
                return Ok(None);
            }
        }
    }
}

/// Why it does not go on.
enum Stop {
    Stopped,
    Refused(UploadError),
    Failed(fanfold_shared::report::Failure),
}

struct One<'a> {
    prepared: &'a mut Prepared,
    client: &'a Client,
    file: &'a LocalFile,
    content: Arc<File>,
    sum: String,
    marks: BTreeMap<String, String>,
}

impl One<'_> {
    fn put(&mut self, progress: &Progress) -> Result<(), Stop> {
        let name = &self.file.name;
        let row = self.prepared.aggregate.ledger().upload(name).map_err(failed)?;
        let (mut recorded, left) = row.map(|row| (row.there, row.upload_id)).unwrap_or_default();
        if let Some(id) = left {
            self.forget(&id, progress)?;
        }
        for _ in 0..CHANGES {
            let seen = self.look(progress)?;
            let over = match seen {
                None => Over::Nothing,
                Some(seen) if self.is_it(&seen) => return self.record(&seen),
                Some(seen) => {
                    let known = recorded.take().is_some_and(|there| is_recorded(&seen, &there));
                    if !known && !is_of(&seen, &self.marks[JOB]) {
                        let (uri, of) = (self.client.uri().clone(), seen.marks.get(JOB).cloned());
                        return Err(Stop::Refused(UploadError::Taken { uri, of, early: false }));
                    }
                    Over::This(seen.version)
                }
            };
            failpoint!("upload_begin");
            let put = match self.file.len <= AT_ONCE {
                true => self.put_at_once(&over, progress),
                false => self.put_in_parts(&over, progress),
            };
            failpoint!("upload_after_put");
            match put {
                Ok(()) => (),
                Err(Stop::Refused(UploadError::Store(error))) => match error.why {
                    // Somebody was faster; or it was we, and the answer was lost.
                    Why::Exists | Why::Changed(_) => continue,
                    // The service knows nothing of the parts any more, perhaps because they have become the object.
                    Why::Missing(_) if self.look(progress)?.is_some_and(|seen| self.is_it(&seen)) => continue,
                    _ => return Err(Stop::Refused(UploadError::Store(error))),
                },
                Err(stop) => return Err(stop),
            }
            return match self.look(progress)? {
                Some(seen) if self.is_it(&seen) => self.record(&seen),
                seen => {
                    let what = match seen {
                        None => "it is gone".into(),
                        Some(seen) => format!("it has {} bytes, or another content", seen.size),
                    };
                    Err(Stop::Refused(UploadError::Altered { uri: self.client.uri().clone(), what }))
                }
            };
        }
        let (uri, what) = (self.client.uri().clone(), "it changes again and again".into());
        Err(Stop::Refused(UploadError::Altered { uri, what }))
    }

    /// Whether the object is this file, uploaded by this job.
    fn is_it(&self, seen: &Seen) -> bool {
        is_of(seen, &self.marks[JOB]) && seen.marks.get(SUM) == Some(&self.sum) && seen.size == self.file.len
    }

    fn record(&mut self, seen: &Seen) -> Result<(), Stop> {
        let there = There { size: self.file.len, sum: self.sum.clone(), version: seen.version.clone() };
        let name = &self.file.name;
        let recorded = until_there_is_room(self.prepared, |aggregate| aggregate.uploaded(name, &there));
        failpoint!("upload_done");
        recorded.map_err(Stop::Failed)?.ok_or(Stop::Stopped)
    }

    fn record_id(&mut self, id: Option<&str>) -> Result<(), Stop> {
        let name = &self.file.name;
        let recorded = until_there_is_room(self.prepared, |aggregate| aggregate.uploading(name, id));
        recorded.map_err(Stop::Failed)?.ok_or(Stop::Stopped)
    }

    fn look(&mut self, progress: &Progress) -> Result<Option<Seen>, Stop> {
        let client = self.client;
        self.ask(progress, |watch| Ok(client.look(&mut || watch.sees(0))?))
    }

    /// Has the service forget the parts of a start that died. Where it does not want to, that is no reason not to go on.
    fn forget(&mut self, id: &str, progress: &Progress) -> Result<(), Stop> {
        let client = self.client;
        match self.ask(progress, |watch| Ok(client.forget_parts(id, &mut || watch.sees(0))?)) {
            Err(Stop::Stopped) => Err(Stop::Stopped),
            _ => self.record_id(None),
        }
    }

    fn put_at_once(&mut self, over: &Over, progress: &Progress) -> Result<(), Stop> {
        let (client, content, marks, len) = (self.client, self.content.clone(), self.marks.clone(), self.file.len);
        self.ask(progress, |watch| client.put_file(&content, len, over, &marks, &mut |sent| watch.sees(sent)))
    }

    fn put_in_parts(&mut self, over: &Over, progress: &Progress) -> Result<(), Stop> {
        let (client, content, marks, len) = (self.client, self.content.clone(), self.marks.clone(), self.file.len);
        let mut parts = self.ask(progress, |watch| Ok(client.begin_parts(len, &marks, &mut || watch.sees(0))?))?;
        failpoint!("upload_before_record");
        // Azure has no name for them.
        let id = Some(parts.id().to_string()).filter(|id| !id.is_empty());
        if id.is_some() {
            self.record_id(id.as_deref())?;
        }
        failpoint!("upload_recorded");
        let sent = self.ask(progress, |watch| parts.send(&content, &mut |sent| watch.sees(sent)));
        failpoint!("upload_parts_sent");
        let put = match sent {
            Ok(()) => self.ask(progress, |watch| Ok(parts.finish(over, &mut |sent| watch.sees(sent))?)),
            Err(stop) => Err(stop),
        };
        if let Err(Stop::Refused(_)) = put {
            // They will not be gone on with. What the service can't forget, the bucket's own rules remove.
            let forgotten = parts.forget(&mut || watch!(self.prepared, progress).sees(0));
            if id.is_some() && forgotten.is_ok() {
                self.record_id(None)?;
            }
        }
        put
    }

    /// Asks until the service answers, and says meanwhile why nothing moves: like a full disk, that never fails a job.
    fn ask<T>(
        &mut self,
        progress: &Progress,
        mut ask: impl FnMut(&mut Watch<'_>) -> Result<T, PutError>,
    ) -> Result<T, Stop> {
        loop {
            let mut watch = watch!(self.prepared, progress);
            let error = match ask(&mut watch) {
                Ok(value) => return Ok(value),
                Err(PutError::File(error)) => {
                    let failed: Result<(), _> = Err(error).during("read", &self.file.path);
                    return Err(Stop::Failed(failed.expect_err("it is one").into()));
                }
                Err(PutError::Store(error)) => error,
            };
            match error.why {
                Why::Stopped => return Err(Stop::Stopped),
                ref why if !is_passing(why) => return Err(Stop::Refused(UploadError::Store(error))),
                _ => (),
            }
            let text = format!("{error}; it is tried again and goes on by itself");
            let until = Instant::now() + AGAIN;
            while Instant::now() < until {
                watch.observer.uploads(watch.aggregate, &progress.in_words(0), Some(&text));
                if watch.orders.count() > 0 {
                    return Err(Stop::Stopped);
                }
                thread::sleep(LOOK);
            }
        }
    }
}

/// Whether the same request may find another answer.
fn is_passing(why: &Why) -> bool {
    match why {
        Why::Server(status, _) => matches!(status, 408 | 429 | 500..),
        why => !why.is_final(),
    }
}

fn failed(error: crate::ledger::LedgerError) -> Stop {
    Stop::Failed(error.into())
}
