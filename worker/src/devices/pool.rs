//! Deals the node's devices to its processes. Pure: it starts and locks nothing.

use fanfold_shared::ids::ProcessNumber;
use fanfold_shared::job::SurplusProcesses;

use super::Device;

/// What one process gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A device: its own, or dealt once more to a surplus process.
    Device(Device),
    /// No variable: the process sees every device of the machine.
    Unset,
    /// An empty variable: the process sees none.
    Hidden,
    /// The node has no devices to deal; what the worker inherited stands.
    Inherited,
}

impl Binding {
    /// The device's name, for the ledger and the logs.
    pub fn device(&self) -> Option<&str> {
        match self {
            Binding::Device(device) => Some(&device.visible),
            Binding::Unset | Binding::Hidden | Binding::Inherited => None,
        }
    }
}

/// The devices of a node and who has which.
#[derive(Clone, Debug)]
pub struct Pool {
    devices: Vec<Dealt>,
    without: Binding,
    share: bool,
}

#[derive(Clone, Debug)]
struct Dealt {
    device: Device,
    users: Vec<ProcessNumber>,
}

impl Pool {
    /// A pool of what the node holds. Without devices every process keeps what the worker inherited, unless `hidden`
    /// (`gpus: []`: this job is to see none).
    pub fn new(devices: Vec<Device>, surplus: SurplusProcesses, hidden: bool) -> Pool {
        let without = match surplus {
            _ if hidden => Binding::Hidden,
            _ if devices.is_empty() => Binding::Inherited,
            SurplusProcesses::Unset | SurplusProcesses::Share => Binding::Unset,
            SurplusProcesses::Hide => Binding::Hidden,
        };
        let devices = devices.into_iter().map(|device| Dealt { device, users: Vec::new() }).collect();
        Pool { devices, without, share: surplus == SurplusProcesses::Share }
    }

    /// What `process`, about to start, gets: the first unused device; if there is none, what surplus processes get. Shared
    /// devices go to the one with the fewest users, the first of equals: round robin, and even again after a death.
    pub fn assign(&mut self, process: ProcessNumber) -> Binding {
        let fewest = self.devices.iter_mut().min_by_key(|dealt| dealt.users.len());
        match fewest.filter(|dealt| self.share || dealt.users.is_empty()) {
            Some(dealt) => {
                dealt.users.push(process);
                Binding::Device(dealt.device.clone())
            }
            None => self.without.clone(),
        }
    }

    /// Takes back what `process` had. To be called when nothing of it is alive any more: a process that can't be killed
    /// keeps its device.
    pub fn release(&mut self, process: ProcessNumber) {
        for dealt in &mut self.devices {
            dealt.users.retain(|&user| user != process);
        }
    }
}

/// What the user should know about so many processes on so many devices; None if all is well.
pub fn advice(devices: usize, processes: u32, surplus: SurplusProcesses) -> Option<String> {
    let count = processes as usize;
    let gpus = if devices == 1 { "1 GPU" } else { &format!("{devices} GPUs") };
    if devices > count {
        Some(format!(
            "this node has {gpus} and runs {}: {} stay idle; set `process_count_per_node: {devices}` to use all",
            if count == 1 { "1 process".to_string() } else { format!("{count} processes") },
            devices - count
        ))
    } else if devices > 0 && count > devices && surplus == SurplusProcesses::Unset {
        Some(format!(
            "this node has {gpus} for {count} processes: the others start without CUDA_VISIBLE_DEVICES and see every GPU; \
             set `process_count_per_node: {devices}`, or `surplus_processes: hide` (no GPU) or `share` (in turn)"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(devices: usize, surplus: SurplusProcesses) -> Pool {
        let device = |index: usize| Device { visible: index.to_string(), uuid: None, name: None };
        Pool::new((0..devices).map(device).collect(), surplus, false)
    }

    fn start(pool: &mut Pool, process: u32) -> Option<String> {
        match pool.assign(ProcessNumber(process)) {
            Binding::Device(device) => Some(device.visible),
            Binding::Hidden => Some(String::new()),
            Binding::Unset | Binding::Inherited => None,
        }
    }

    #[test]
    fn two_gpus_and_four_processes_as_in_the_original() {
        let mut pool = pool(2, SurplusProcesses::Unset);
        assert_eq!(start(&mut pool, 0).as_deref(), Some("0"));
        assert_eq!(start(&mut pool, 1).as_deref(), Some("1"));
        assert_eq!(start(&mut pool, 2), None);
        assert_eq!(start(&mut pool, 3), None);
        pool.release(ProcessNumber(0));
        assert_eq!(start(&mut pool, 4).as_deref(), Some("0"));
    }

    #[test]
    fn surplus_processes_are_hidden_or_share_as_asked() {
        let mut hide = pool(1, SurplusProcesses::Hide);
        assert_eq!(start(&mut hide, 0).as_deref(), Some("0"));
        assert_eq!(hide.assign(ProcessNumber(1)), Binding::Hidden);

        let mut share = pool(2, SurplusProcesses::Share);
        let dealt: Vec<_> = (0..5).map(|process| start(&mut share, process).unwrap()).collect();
        assert_eq!(dealt, ["0", "1", "0", "1", "0"]);
        share.release(ProcessNumber(1));
        share.release(ProcessNumber(3));
        assert_eq!(start(&mut share, 5).as_deref(), Some("1"));
        assert_eq!(start(&mut share, 6).as_deref(), Some("1"));
    }

    #[test]
    fn without_devices_what_was_inherited_stands_unless_the_job_wants_none() {
        assert_eq!(pool(0, SurplusProcesses::Hide).assign(ProcessNumber(0)), Binding::Inherited);
        let mut none = Pool::new(Vec::new(), SurplusProcesses::Unset, true);
        assert_eq!(none.assign(ProcessNumber(0)), Binding::Hidden);
    }

    #[test]
    fn idle_gpus_and_unbound_processes_are_pointed_out() {
        assert_eq!(advice(2, 2, SurplusProcesses::Unset), None);
        assert_eq!(advice(0, 8, SurplusProcesses::Unset), None);
        assert_eq!(advice(2, 4, SurplusProcesses::Share), None);
        let idle = advice(8, 1, SurplusProcesses::Unset).unwrap();
        assert!(idle.contains("7 stay idle") && idle.contains("process_count_per_node: 8"), "{idle}");
        let unbound = advice(1, 4, SurplusProcesses::Unset).unwrap();
        assert!(unbound.contains("see every GPU") && unbound.contains("surplus_processes: hide"), "{unbound}");
    }

    proptest! {
        #[test]
        fn no_device_is_dealt_twice_and_none_lies_idle(devices in 0usize..4, stops in proptest::collection::vec(any::<(bool, u8)>(), 0..60)) {
            let mut pool = pool(devices, SurplusProcesses::Unset);
            let mut running: Vec<(u32, Option<String>)> = Vec::new();
            for (next, (stop, which)) in stops.into_iter().enumerate() {
                if stop && !running.is_empty() {
                    let (process, _) = running.remove(which as usize % running.len());
                    pool.release(ProcessNumber(process));
                } else {
                    let held = running.iter().filter(|(_, device)| device.is_some()).count();
                    let device = start(&mut pool, next as u32);
                    prop_assert_eq!(device.is_some(), held < devices);
                    running.push((next as u32, device));
                }
                let mut held: Vec<_> = running.iter().filter_map(|(_, device)| device.clone()).collect();
                held.sort();
                let count = held.len();
                held.dedup();
                prop_assert_eq!(held.len(), count);
            }
        }
    }
}
