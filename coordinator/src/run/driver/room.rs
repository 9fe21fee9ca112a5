//! A full disk while the job runs: it is waited for, and never fails a job.

use std::path::Path;
use std::thread;
use std::time::Instant;

use fanfold_shared::items::ItemsError;
use fanfold_shared::report::Result;

use super::super::nodes::End;
use super::{Course, DISK_FULL_RETRY, Driver, Ending};

/// Items whose fingerprints are taken at once.
const STRETCH: u64 = 4096;

impl Driver<'_> {
    /// Notes what the files of all mini-batches before `last` are like, before the first of them is handed out. False: there is no room for it.
    pub(super) fn look_at_files(&mut self, course: &mut Course, last: u64) -> Result<bool> {
        // Who splits looks at them itself.
        if self.fingerprints.is_none() || self.splitting.is_some() {
            return Ok(true);
        }
        let needed = self.observer.items().entries_of(last - 1..last)?.end;
        if needed <= course.fingerprinted {
            return Ok(true);
        }
        let to = needed.next_multiple_of(STRETCH).min(self.aggregate.split().entries());
        while let Some(fingerprints) = &self.fingerprints {
            match fingerprints.take(self.observer.items(), course.fingerprinted..to) {
                Ok(()) => break,
                Err(ItemsError::Io(error)) if error.is_disk_full() => {
                    if self.orders.count() > 0 {
                        return Ok(false);
                    }
                    self.wait_for_room(course, &error.path, &error.source.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        course.fingerprinted = to;
        Ok(true)
    }

    /// Shows that the disk is full and waits a moment.
    pub(super) fn wait_for_room(&mut self, course: &mut Course, path: &Path, why: &str) {
        course.clock.run(false, Instant::now());
        self.observer.tick(self.aggregate, &self.window, self.nodes, Some(&disk_full(path, why)));
        // Or they leave, as if nobody were there.
        self.nodes.tell(Instant::now());
        thread::sleep(DISK_FULL_RETRY);
    }

    /// How a job ends whose user does not wait for room on the disk: nothing that a node still says could be committed, so nobody waits for
    /// it.
    pub(super) fn give_up_on_room(&mut self, course: Course) -> Ending {
        self.nodes.end(End::Kill, Instant::now());
        match course.ending {
            Some(Ending::Canceled) => Ending::Canceled,
            _ => Ending::Interrupted,
        }
    }
}

/// What is said of a full disk while there is somebody who waits for room.
pub(super) fn disk_full(path: &Path, why: &str) -> String {
    format!("disk full: cannot write `{}` ({why}); make room, the job goes on by itself", path.display())
}
