//! The devices of one node, from finding them to dealing them.

use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fanfold_shared::ids::ProcessNumber;
use fanfold_shared::job::SurplusProcesses;

use super::lock::{Held, Holder, Wait, hold_when_free, lock_directory};
use super::pool::{Binding, Pool};
use super::{Device, DeviceError, advice};

/// How long a job waits for devices that other workers of this host hold.
const PATIENCE: Duration = Duration::from_secs(60);

/// Devices held by a node, and who of its processes has which.
#[derive(Debug)]
pub struct NodeDevices {
    found: usize,
    held: Held,
    pool: Pool,
    surplus: SurplusProcesses,
}

impl NodeDevices {
    /// Takes devices out of `found` for `processes` processes of `job`, waiting a minute for those that other workers hold.
    /// `chosen`: the job named them.
    ///
    /// # Errors
    /// Too few are free, and who holds the others.
    pub fn take(
        found: &[Device],
        chosen: bool,
        processes: u32,
        surplus: SurplusProcesses,
        job: &str,
        cancel: &AtomicBool,
        waiting: &mut dyn FnMut(&str),
    ) -> Result<NodeDevices, DeviceError> {
        let wait = Wait { limit: PATIENCE, cancel, waiting };
        let holder = Holder { job: job.to_string() };
        let held = hold_when_free(&lock_directory(), found, processes as usize, chosen, &holder, wait)?;
        let hidden = chosen && found.is_empty();
        let pool = Pool::new(held.devices().to_vec(), surplus, hidden);
        Ok(NodeDevices { found: found.len(), held, pool, surplus })
    }

    /// The devices that the node found, those that others hold included.
    pub fn found(&self) -> usize {
        self.found
    }

    /// What is held, as `CUDA_VISIBLE_DEVICES` spells it.
    pub fn names(&self) -> Vec<String> {
        self.held.devices().iter().map(|device| device.visible.clone()).collect()
    }

    /// What the user should know about so many processes on these devices.
    pub fn advice(&self, processes: u32) -> Option<String> {
        advice(self.found, processes, self.surplus)
    }

    /// The locks, for the guardian to keep until nothing of the node is left.
    pub fn locks(&self) -> Vec<BorrowedFd<'_>> {
        self.held.descriptors()
    }

    /// See [`Pool::assign`].
    pub fn assign(&mut self, process: ProcessNumber) -> Binding {
        self.pool.assign(process)
    }

    /// See [`Pool::release`].
    pub fn release(&mut self, process: ProcessNumber) {
        self.pool.release(process);
    }
}
