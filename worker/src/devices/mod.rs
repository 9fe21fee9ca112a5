//! Which GPUs this node has, and which process gets which (spec section 6).
//!
//! [`discover`] says what the node may use, [`NodeDevices`] takes what no other worker on this host uses ([`hold`]) and deals it
//! to the processes ([`Pool`]), and [`child_env`] turns the deal into environment variables. No GPU is fine everywhere.
//!
//! An index means NVML's: PCI bus order, as `nvidia-smi` shows it. CUDA by itself counts otherwise (fastest first), so
//! that a process which gets an index also gets `CUDA_DEVICE_ORDER=PCI_BUS_ID`.

mod child_env;
mod lock;
mod mask;
mod node;
mod nvml;
mod pool;

use std::path::PathBuf;
use std::thread;

use fanfold_shared::report::{ExitCode, Report};

pub use child_env::{ChildEnv, child_env, without_secrets};
pub use lock::{Busy, Held, Holder, Wait, hold, hold_when_free, lock_directory};
pub use node::NodeDevices;
pub use nvml::GpuMemory;
pub use pool::{Binding, Pool, advice};

/// One device: a GPU, or a MIG slice of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What goes into `CUDA_VISIBLE_DEVICES`.
    pub visible: String,
    /// Its UUID, where NVML is there to say it (or the list gave it).
    pub uuid: Option<String>,
    /// Its model, where NVML is there to say it.
    pub name: Option<String>,
}

impl Device {
    /// What names the device on this host, however a list spelt it.
    pub fn key(&self) -> String {
        self.uuid.clone().unwrap_or_else(|| format!("index-{}", self.visible))
    }
}

/// The devices that this node may use, in order.
///
/// `gpus` (indices or UUIDs, of GPUs or MIG slices) overrides everything and must exist where NVML is there to tell. Else
/// `inherited`, the `CUDA_VISIBLE_DEVICES` that the job's `environment_variables` or else the worker's own environment set, bounds the
/// node as it would bound CUDA. Else it is what NVML shows.
pub fn discover(gpus: Option<&[String]>, inherited: Option<&str>) -> Result<Vec<Device>, DeviceError> {
    if gpus.is_some_and(<[String]>::is_empty) || gpus.is_none() && inherited.is_some_and(|mask| mask.trim().is_empty())
    {
        // Loading NVML can take a second on a machine with many GPUs.
        return Ok(Vec::new());
    }
    let found = nvml::gpus();
    match (gpus, inherited) {
        (Some(list), _) => mask::chosen(list, found.as_deref()),
        (None, Some(mask)) => Ok(mask::inherited(mask, found.as_deref())),
        (None, None) => Ok(mask::all(&found.unwrap_or_default())),
    }
}

/// The cores that this program may use; 1 where nobody can tell.
pub fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| cores.get().try_into().unwrap_or(u32::MAX))
}

/// Processes of a node with so many devices, unless the job says otherwise: one where there are GPUs, else one for each core.
pub fn default_processes(devices: usize) -> u32 {
    if devices > 0 { 1 } else { cores() }
}

/// What is wrong with the devices asked for.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// An entry that can't name any device.
    #[error("`{entry}` in `gpus` names no device")]
    NotADevice {
        /// As given.
        entry: String,
    },
    /// An entry for which there is no device.
    #[error("this machine has no GPU `{entry}`")]
    NoSuchDevice {
        /// As given.
        entry: String,
        /// What there is instead.
        existing: Vec<String>,
    },
    /// Two entries for one device.
    #[error("`{entry}` in `gpus` names a device that is named before it")]
    NamedTwice {
        /// As given.
        entry: String,
    },
    /// Other workers on this host hold too many of the devices.
    #[error("{}", lock::describe_busy(.busy))]
    Busy {
        /// The devices that are held, and by whom.
        busy: Vec<Busy>,
        /// Whether the job names the devices.
        chosen: bool,
    },
    /// The wait for a device was cut short.
    #[error("interrupted while waiting for a GPU")]
    Interrupted,
    /// The directory of locks, or one of them, can't be used.
    #[error("cannot {operation} the device lock `{}`", path.display())]
    Lock {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Report for DeviceError {
    fn exit_code(&self) -> ExitCode {
        match self {
            DeviceError::NotADevice { .. }
            | DeviceError::NoSuchDevice { .. }
            | DeviceError::NamedTwice { .. }
            // The job is as good as before, and goes on with the same command: not Failed.
            | DeviceError::Busy { .. }
            | DeviceError::Lock { .. } => ExitCode::Usage,
            DeviceError::Interrupted => ExitCode::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            DeviceError::NotADevice { .. } => Some(
                "write indices as `nvidia-smi` shows them, or UUIDs: `gpus: [0, 1]`, `gpus: [GPU-8932f937]`".into(),
            ),
            DeviceError::NoSuchDevice { existing, .. } if existing.is_empty() => {
                Some("NVIDIA's driver shows no GPU that may be used here".into())
            }
            DeviceError::NoSuchDevice { existing, .. } => Some(format!("there are: {}", existing.join(", "))),
            DeviceError::NamedTwice { .. } => Some("name each device once".into()),
            DeviceError::Busy { chosen: true, .. } => {
                Some("run the same command again when that job has ended, or name other devices with `gpus`".into())
            }
            DeviceError::Busy { chosen: false, .. } => {
                Some("run the same command again when one of these jobs has ended; `fanfold cancel` ends it".into())
            }
            DeviceError::Lock { .. } => {
                Some("name a directory that every user of this host can write to in FANFOLD_DEVICE_LOCKS".into())
            }
            DeviceError::Interrupted => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_overrides_the_mask_and_an_empty_one_means_none() {
        assert_eq!(discover(Some(&[]), Some("0,1")).unwrap(), []);
        assert_eq!(discover(None, Some("")).unwrap(), []);
        assert_eq!(discover(None, Some("-1")).unwrap(), []);
    }

    #[test]
    fn a_device_without_a_uuid_is_named_by_its_index() {
        let device = |visible: &str, uuid: Option<&str>| Device {
            visible: visible.into(),
            uuid: uuid.map(String::from),
            name: None,
        };
        assert_eq!(device("3", None).key(), "index-3");
        assert_eq!(device("3", Some("GPU-aa")).key(), "GPU-aa");
    }
}
