//! Lists of devices, as `CUDA_VISIBLE_DEVICES` and `gpus` spell them, and what they stand for.

use super::nvml::Gpu;
use super::{Device, DeviceError};

/// One entry of a list.
#[derive(Debug, PartialEq, Eq)]
enum Entry<'a> {
    /// A position: of NVML, which is PCI bus order.
    Index(usize),
    /// `GPU-…` or `MIG-…`, perhaps only its beginning.
    Uuid(&'a str),
}

fn entry(text: &str) -> Option<Entry<'_>> {
    let text = text.trim();
    if text.starts_with("GPU-") || text.starts_with("MIG-") {
        return Some(Entry::Uuid(text));
    }
    let is_index = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_index.then(|| text.parse().ok().map(Entry::Index)).flatten()
}

/// What an inherited mask leaves visible. CUDA's rule: the list ends before its first entry that names no device, so that
/// `-1`, `NoDevFiles` and the empty text leave none. Where NVML is missing every well-formed entry names a device.
pub(super) fn inherited(mask: &str, gpus: Option<&[Gpu]>) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    for text in mask.split(',') {
        let Some(found) = entry(text).and_then(|entry| find(&entry, gpus)) else { break };
        // Named twice is invalid too; CUDA then shows nothing at all, which helps nobody.
        if found.iter().any(|device| devices.iter().any(|other| other.key() == device.key())) {
            break;
        }
        devices.extend(found);
    }
    devices
}

/// What `gpus` asks for, all of which must exist.
pub(super) fn chosen(list: &[String], gpus: Option<&[Gpu]>) -> Result<Vec<Device>, DeviceError> {
    let mut devices: Vec<Device> = Vec::new();
    for text in list {
        let entry = entry(text).ok_or_else(|| DeviceError::NotADevice { entry: text.clone() })?;
        let found = find(&entry, gpus).ok_or_else(|| DeviceError::NoSuchDevice {
            entry: text.clone(),
            existing: gpus.unwrap_or_default().iter().enumerate().map(|(index, gpu)| gpu.describe(index)).collect(),
        })?;
        if found.iter().any(|device| devices.iter().any(|other| other.key() == device.key())) {
            return Err(DeviceError::NamedTwice { entry: text.clone() });
        }
        devices.extend(found);
    }
    Ok(devices)
}

/// All that NVML shows.
pub(super) fn all(gpus: &[Gpu]) -> Vec<Device> {
    gpus.iter().enumerate().flat_map(|(index, gpu)| by_index(index, gpu)).collect()
}

fn find(entry: &Entry<'_>, gpus: Option<&[Gpu]>) -> Option<Vec<Device>> {
    let Some(gpus) = gpus else {
        return Some(vec![match entry {
            Entry::Index(index) => Device { visible: index.to_string(), uuid: None, name: None },
            Entry::Uuid(uuid) => Device { visible: uuid.to_string(), uuid: Some(uuid.to_string()), name: None },
        }]);
    };
    match entry {
        Entry::Index(index) => gpus.get(*index).map(|gpu| by_index(*index, gpu)),
        Entry::Uuid(text) => {
            let by_uuid = |gpu: &Gpu, uuid: &str| Device {
                visible: text.to_string(),
                uuid: Some(uuid.to_string()),
                name: Some(gpu.name.clone()),
            };
            let mut found = gpus.iter().flat_map(|gpu| {
                std::iter::once(&gpu.uuid)
                    .chain(&gpu.mig)
                    .filter(|uuid| uuid.starts_with(text))
                    .map(|uuid| by_uuid(gpu, uuid))
            });
            let first = found.next()?;
            // A beginning that several share names none of them.
            found.next().is_none().then(|| vec![first])
        }
    }
}

/// A GPU that is cut into MIG slices stands for its slices: CUDA shows a process one slice of it at most, and only by UUID
/// can each process get another.
fn by_index(index: usize, gpu: &Gpu) -> Vec<Device> {
    let name = Some(gpu.name.clone());
    if gpu.mig.is_empty() {
        return vec![Device { visible: index.to_string(), uuid: Some(gpu.uuid.clone()), name }];
    }
    let slice = |uuid: &String| Device { visible: uuid.clone(), uuid: Some(uuid.clone()), name: name.clone() };
    gpu.mig.iter().map(slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<Gpu> {
        let gpu = |uuid: &str, mig: &[&str]| Gpu {
            uuid: uuid.into(),
            name: "H200".into(),
            mig: mig.iter().map(|uuid| uuid.to_string()).collect(),
        };
        vec![gpu("GPU-aa11", &[]), gpu("GPU-aa22", &[]), gpu("GPU-bb33", &["MIG-c1", "MIG-c2"])]
    }

    fn visible(devices: &[Device]) -> Vec<&str> {
        devices.iter().map(|device| device.visible.as_str()).collect()
    }

    fn chosen_of(list: &[&str], gpus: Option<&[Gpu]>) -> Result<Vec<Device>, DeviceError> {
        chosen(&list.iter().map(|entry| entry.to_string()).collect::<Vec<_>>(), gpus)
    }

    #[test]
    fn a_mask_ends_before_its_first_invalid_entry() {
        for (mask, without_nvml, with_nvml) in [
            ("0,1", &["0", "1"][..], &["0", "1"][..]),
            ("1, 0", &["1", "0"], &["1", "0"]),
            ("", &[], &[]),
            ("-1", &[], &[]),
            ("NoDevFiles", &[], &[]),
            ("1,-1,0", &["1"], &["1"]),
            ("0,9,1", &["0", "9", "1"], &["0"]),
            ("0,0", &["0"], &["0"]),
            ("GPU-bb33,0", &["GPU-bb33", "0"], &["GPU-bb33", "0"]),
            ("GPU-aa,0", &["GPU-aa", "0"], &[]),
            ("MIG-c2", &["MIG-c2"], &["MIG-c2"]),
            ("GPU-zz", &["GPU-zz"], &[]),
        ] {
            assert_eq!(visible(&inherited(mask, None)), without_nvml, "{mask:?} without NVML");
            assert_eq!(visible(&inherited(mask, Some(&machine()))), with_nvml, "{mask:?} with NVML");
        }
    }

    #[test]
    fn the_same_device_under_two_names_has_one_key() {
        let machine = machine();
        let by_index = &inherited("1", Some(&machine))[0];
        let by_uuid = &inherited("GPU-aa2", Some(&machine))[0];
        assert_eq!(by_index.key(), by_uuid.key());
        assert_eq!(visible(&inherited("1,GPU-aa2,0", Some(&machine))), ["1"]);
    }

    #[test]
    fn a_gpu_in_slices_stands_for_its_slices() {
        let machine = machine();
        assert_eq!(visible(&all(&machine)), ["0", "1", "MIG-c1", "MIG-c2"]);
        assert_eq!(visible(&chosen_of(&["2"], Some(&machine)).unwrap()), ["MIG-c1", "MIG-c2"]);
    }

    #[test]
    fn gpus_that_do_not_exist_are_refused_and_the_others_named() {
        let error = chosen_of(&["0", "7"], Some(&machine())).unwrap_err();
        assert_eq!(error.to_string(), "this machine has no GPU `7`");
        use fanfold_shared::report::Report;
        assert_eq!(
            error.hint().unwrap(),
            "there are: 0 (H200, GPU-aa11), 1 (H200, GPU-aa22), 2 (H200, GPU-bb33, in slices MIG-c1 MIG-c2)"
        );
        assert!(matches!(chosen_of(&["cuda:0"], None), Err(DeviceError::NotADevice { .. })));
        assert!(matches!(chosen_of(&["1", "GPU-aa22"], Some(&machine())), Err(DeviceError::NamedTwice { .. })));
        assert_eq!(visible(&chosen_of(&["0", "7"], None).unwrap()), ["0", "7"]);
    }
}
