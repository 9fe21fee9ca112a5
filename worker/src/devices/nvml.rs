//! The GPUs of this machine, as NVIDIA's management library (NVML) shows them.

use std::collections::HashMap;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;

/// `NVML_DEVICE_MIG_ENABLE` of nvml.h.
const DEVICE_MIG_ENABLE: u32 = 1;

/// One GPU that we may use. Its place in the list is its index for CUDA in PCI bus order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpu {
    pub uuid: String,
    pub name: String,
    /// The UUIDs of its MIG slices, if it is cut into slices.
    pub mig: Vec<String>,
}

impl Gpu {
    /// For a list of what there is.
    pub fn describe(&self, index: usize) -> String {
        let Gpu { uuid, name, mig } = self;
        match mig.as_slice() {
            [] => format!("{index} ({name}, {uuid})"),
            mig => format!("{index} ({name}, {uuid}, in slices {})", mig.join(" ")),
        }
    }
}

/// None: there is no such library, or no driver behind it; both are usual on machines without a GPU.
pub(super) fn gpus() -> Option<Vec<Gpu>> {
    let nvml = Nvml::init().ok()?;
    let count = nvml.device_count().ok()?;
    // A GPU that this container may not open, or that has fallen off the bus, is counted by NVML and not by CUDA.
    Some((0..count).filter_map(|index| gpu(&nvml, index).ok().flatten()).collect())
}

fn gpu(nvml: &Nvml, index: u32) -> Result<Option<Gpu>, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let (uuid, name) = (device.uuid()?, device.name().unwrap_or_else(|_| "GPU".into()));
    // Most GPUs can't be cut and answer with an error.
    let is_cut = device.mig_mode().is_ok_and(|mode| mode.current == DEVICE_MIG_ENABLE);
    let slices = if is_cut { device.mig_device_count().unwrap_or(0) } else { 0 };
    let mig: Vec<String> =
        (0..slices).filter_map(|slice| device.mig_device_by_index(slice).ok()?.uuid().ok()).collect();
    // Ready to be cut but not yet cut, it can compute nothing.
    Ok((!is_cut || !mig.is_empty()).then_some(Gpu { uuid, name, mig }))
}

/// Who has how much memory of the GPUs of this machine.
#[derive(Debug)]
pub struct GpuMemory(Nvml);

impl GpuMemory {
    /// None: there is no such library, or no driver behind it.
    pub fn open() -> Option<GpuMemory> {
        Nvml::init().ok().map(GpuMemory)
    }

    /// By process id: indices of devices, and bytes. Drivers do not show it in every container.
    pub fn by_process(&self) -> HashMap<u32, Vec<(u32, u64)>> {
        let mut found: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
        for index in 0..self.0.device_count().unwrap_or(0) {
            let processes = self.0.device_by_index(index).and_then(|device| device.running_compute_processes());
            for process in processes.unwrap_or_default() {
                let UsedGpuMemory::Used(bytes) = process.used_gpu_memory else { continue };
                let devices = found.entry(process.pid).or_default();
                match devices.last_mut() {
                    // One for each slice of a GPU that is cut.
                    Some((last, sum)) if *last == index => *sum += bytes,
                    _ => devices.push((index, bytes)),
                }
            }
        }
        found
    }
}
