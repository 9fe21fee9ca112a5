//! Orders from another terminal: a small file in the job directory, seen by whoever holds the job's lock.
//!
//! No signal to a process id that somebody wrote down: the id may be another program's by now, on another machine, or that of a service with
//! a hundred jobs.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanfold_shared::durable;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, Result};

use super::Orders;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// [`Orders::pause`].
    Pause,
    /// [`Orders::cancel`].
    Cancel,
}

fn path(dir: &JobDir) -> PathBuf {
    dir.internal().join("request")
}

/// Asks whoever works on the job in `dir`.
///
/// # Errors
/// The request can't be written.
pub fn ask(dir: &JobDir, asked: Asked) -> Result<()> {
    let text: &[u8] = match asked {
        Asked::Pause => b"pause\n",
        Asked::Cancel => b"cancel\n",
    };
    Ok(durable::replace(&path(dir), text)?)
}

/// Passes requests on as orders, until it is dropped.
pub struct Requests {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Requests {
    /// Of the job in `dir`, whose lock the caller holds: what was asked of somebody before is void.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn heed(dir: &JobDir, orders: &Orders) -> Result<Requests> {
        let path = path(dir);
        let _ = fs::remove_file(&path);
        let over = Arc::new(AtomicBool::new(false));
        let (ends, orders) = (over.clone(), orders.clone());
        let work = move || {
            while !ends.load(Ordering::SeqCst) {
                match fs::read(&path) {
                    Ok(text) => {
                        // First, so that one that comes now is seen as another one.
                        let _ = fs::remove_file(&path);
                        match text.as_slice() {
                            b"cancel\n" => orders.cancel(),
                            b"pause\n" => orders.pause(),
                            _ => (),
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                    // It can't be read now; perhaps it can later.
                    Err(_) => (),
                }
                thread::park_timeout(LOOK);
            }
        };
        let thread =
            thread::Builder::new().name("requests".into()).spawn(work).during("start a thread of", "this process")?;
        Ok(Requests { over, thread: Some(thread) })
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It panics nowhere.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn requests_become_orders_and_old_ones_are_void() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::new(root.path());
        fs::create_dir(dir.internal()).unwrap();
        ask(&dir, Asked::Cancel).unwrap();
        let orders = Orders::new();
        let heeds = Requests::heed(&dir, &orders).unwrap();
        ask(&dir, Asked::Pause).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while orders.count() == 0 {
            assert!(Instant::now() < deadline, "the request was not seen");
            thread::yield_now();
        }
        assert!(!orders.is_canceled() && !path(&dir).exists());
        drop(heeds);
    }
}
