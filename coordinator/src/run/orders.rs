//! What is asked of a running job from outside: by signals, or by the service that runs it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use fanfold_shared::layout::JobDir;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::report::Interruption;

/// Orders to one job. Clones see the same; they may be given from any thread, at any time. Nothing is taken back but the limit of nodes:
/// the mildest order is to pause, a second one (or to cancel) ends what still runs.
#[derive(Clone, Default)]
pub struct Orders {
    given: Arc<Given>,
}

#[derive(Default)]
struct Given {
    any: AtomicBool,
    /// Orders to stop, whichever.
    count: AtomicU32,
    /// The first signal that came, or SIGTERM for [`Orders::interrupt`].
    signal: AtomicI32,
    canceled: AtomicBool,
    /// One more than the number of nodes; 0: no limit.
    nodes: AtomicI64,
    job: OnceLock<JobDir>,
}

impl Orders {
    /// No order yet.
    pub fn new() -> Orders {
        Orders::default()
    }

    /// Hand out nothing more, finish what runs, come to rest in state Paused.
    pub fn pause(&self) {
        self.stop();
    }

    /// As SIGTERM: the first time as [`Orders::pause`], the second time what runs is killed.
    pub fn interrupt(&self) {
        self.signal(SIGTERM);
    }

    /// Kill what runs and come to rest in state Canceled, within seconds.
    pub fn cancel(&self) {
        self.given.canceled.store(true, Ordering::SeqCst);
        self.stop();
    }

    /// Take part with so many nodes at the most, whatever the job allows; None: as many as it allows.
    pub fn limit_nodes(&self, most: Option<u32>) {
        self.given.nodes.store(most.map_or(0, |most| i64::from(most) + 1), Ordering::SeqCst);
    }

    /// Which job they are given to: known once it has a directory.
    pub fn job(&self) -> Option<&JobDir> {
        self.given.job.get()
    }

    pub(super) fn are_for(&self, job: &JobDir) {
        // They are for one job only.
        let _ = self.given.job.set(job.clone());
    }

    /// A signal came.
    pub(crate) fn signal(&self, signal: i32) {
        // The first is stored before it is counted: whoever sees the count sees the signal.
        let _ = self.given.signal.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        self.stop();
    }

    fn stop(&self) {
        self.given.count.fetch_add(1, Ordering::SeqCst);
        self.given.any.store(true, Ordering::SeqCst);
    }

    /// Whether the job is to stop, for those who only need to know that.
    pub fn flag(&self) -> &AtomicBool {
        &self.given.any
    }

    /// How often it was told to stop.
    pub fn count(&self) -> u32 {
        self.given.count.load(Ordering::SeqCst)
    }

    /// Whether it is to be canceled.
    pub fn is_canceled(&self) -> bool {
        self.given.canceled.load(Ordering::SeqCst)
    }

    /// See [`Orders::limit_nodes`].
    pub fn node_limit(&self) -> Option<u32> {
        match self.given.nodes.load(Ordering::SeqCst) {
            0 => None,
            limit => Some((limit - 1) as u32),
        }
    }

    /// The signal that stopped the work: the first that came; None if it was asked for in another way.
    pub fn interruption(&self) -> Option<Interruption> {
        match self.given.signal.load(Ordering::SeqCst) {
            0 => None,
            SIGINT => Some(Interruption::Interrupt),
            _ => Some(Interruption::Terminate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_see_what_was_ordered() {
        let orders = Orders::new();
        let seen = orders.clone();
        assert_eq!((seen.count(), seen.node_limit(), seen.interruption()), (0, None, None));
        orders.limit_nodes(Some(0));
        assert_eq!(seen.node_limit(), Some(0));
        orders.limit_nodes(None);
        assert_eq!(seen.node_limit(), None);
        orders.pause();
        assert_eq!((seen.count(), seen.interruption(), seen.is_canceled()), (1, None, false));
        orders.signal(SIGINT);
        orders.interrupt();
        assert_eq!((seen.count(), seen.interruption()), (3, Some(Interruption::Interrupt)), "the first signal counts");
        orders.cancel();
        assert!(seen.is_canceled());
    }
}
