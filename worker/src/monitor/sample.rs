//! One look at the host. Reads; decides nothing.
//!
//! Whatever can't be read is `None`: a container may hide any of it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fanfold_shared::clock;
use fanfold_shared::ids::ProcessNumber;
use nix::sys::statvfs::statvfs;
use procfs::{Current, CurrentSI, KernelStats, Meminfo, net};

use super::processes::{Listed, Own, Table};
use crate::devices::GpuMemory;

/// A sector of `/proc/diskstats`, whatever the disk's are.
const SECTOR: u64 = 512;

/// What one look saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Microseconds since the epoch.
    pub at_us: u64,
    /// Nanoseconds since boot.
    pub boot_ns: u64,
    pub host: Host,
    pub disks: Vec<Disk>,
    /// The node's Python processes and what they started.
    pub own: Vec<Own>,
    /// All processes that can be seen, if they were asked for.
    pub all: Option<Vec<Listed>>,
}

/// The host as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Host {
    pub cpu: Option<Cpu>,
    pub memory: Option<Memory>,
    pub disk_io: Option<DiskIo>,
    pub network: Option<Network>,
    pub tcp: Option<u64>,
    pub udp: Option<u64>,
}

/// Ticks of all processors since boot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cpu {
    pub busy: u64,
    pub total: u64,
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Memory {
    pub total: u64,
    pub available: u64,
    pub used: u64,
}

/// Since boot, over all block devices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct DiskIo {
    pub reads: u64,
    pub writes: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// Bytes since boot, over all interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Network {
    pub sent: u64,
    pub received: u64,
}

/// A file system, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Disk {
    /// What of the node lies on it.
    pub path: PathBuf,
    pub total: u64,
    pub used: u64,
    /// For users other than root.
    pub free: u64,
}

/// What looks, and what it remembers.
pub(super) struct Sampler {
    disks: Vec<PathBuf>,
    gpus: Option<GpuMemory>,
    table: Table,
}

impl Sampler {
    pub fn new(disks: Vec<PathBuf>, gpus: bool) -> Sampler {
        Sampler { disks, gpus: gpus.then(GpuMemory::open).flatten(), table: Table::default() }
    }

    /// `all`: with the list of all processes.
    pub fn look(&mut self, at_us: u64, pythons: &BTreeMap<u32, ProcessNumber>, all: bool) -> Sample {
        let gpu = self.gpus.as_ref().map(GpuMemory::by_process).unwrap_or_default();
        let boot_ns = clock::boot_ns();
        let (own, all) = self.table.look(pythons, &gpu, all);
        Sample { at_us, boot_ns, host: host(), disks: disks(&self.disks), own, all }
    }
}

fn host() -> Host {
    // The tables of sockets themselves would be most of what a look costs: the kernel walks a hash table that is as large as the memory
    // calls for, however few sockets there are. There may be no IPv6.
    let sockets = ["sockstat", "sockstat6"].map(|name| fs::read_to_string(Path::new("/proc/net").join(name)));
    let sockets = sockets.map(Result::unwrap_or_default).concat();
    Host {
        cpu: cpu(),
        memory: memory(),
        disk_io: disk_io(),
        network: network(),
        tcp: connections(&sockets, ["TCP:", "TCP6:"]),
        udp: connections(&sockets, ["UDP:", "UDP6:"]),
    }
}

/// The sockets that the tables would show: those in use, and those that only wait for their time to be over (`tw`).
fn connections(sockets: &str, protocols: [&str; 2]) -> Option<u64> {
    let mut count = None;
    for line in sockets.lines() {
        let mut words = line.split_ascii_whitespace();
        if !words.next().is_some_and(|protocol| protocols.contains(&protocol)) {
            continue;
        }
        let words: Vec<&str> = words.collect();
        for pair in words.chunks_exact(2) {
            if let ("inuse" | "tw", Ok(number)) = (pair[0], pair[1].parse::<u64>()) {
                *count.get_or_insert(0) += number;
            }
        }
    }
    count
}

fn cpu() -> Option<Cpu> {
    let time = KernelStats::current().ok()?.total;
    // Guests are in `user` and `nice` already.
    let waits = time.idle + time.iowait.unwrap_or(0);
    let more: u64 = [time.irq, time.softirq, time.steal].into_iter().flatten().sum();
    let busy = time.user + time.nice + time.system + more;
    Some(Cpu { busy, total: busy + waits })
}

fn memory() -> Option<Memory> {
    let info = Meminfo::current().ok()?;
    let cached = info.cached + info.s_reclaimable.unwrap_or(0) + info.buffers;
    let taken = info.mem_total.saturating_sub(info.mem_free);
    Some(Memory {
        total: info.mem_total,
        available: info.mem_available.unwrap_or(info.mem_free + cached).min(info.mem_total),
        // In some containers the parts are larger than the whole.
        used: taken.checked_sub(cached).unwrap_or(taken),
    })
}

fn disk_io() -> Option<DiskIo> {
    let mut io = DiskIo::default();
    for disk in procfs::diskstats().ok()? {
        // A partition is counted with its disk.
        if Path::new("/sys/block").join(disk.name.replace('/', "!")).exists() {
            io.reads += disk.reads;
            io.writes += disk.writes;
            io.read_bytes += disk.sectors_read * SECTOR;
            io.written_bytes += disk.sectors_written * SECTOR;
        }
    }
    Some(io)
}

fn network() -> Option<Network> {
    let mut network = Network::default();
    for interface in net::dev_status().ok()?.into_values() {
        network.sent += interface.sent_bytes;
        network.received += interface.recv_bytes;
    }
    Some(network)
}

/// Each file system once.
fn disks(paths: &[PathBuf]) -> Vec<Disk> {
    let mut seen = HashSet::new();
    let disk = |path: &PathBuf| {
        let device = fs::metadata(path).ok()?.dev();
        if !seen.insert(device) {
            return None;
        }
        let stat = statvfs(path).ok()?;
        let bytes = |blocks| blocks * stat.fragment_size();
        Some(Disk {
            path: path.clone(),
            total: bytes(stat.blocks()),
            used: bytes(stat.blocks().saturating_sub(stat.blocks_free())),
            free: bytes(stat.blocks_available()),
        })
    };
    paths.iter().filter_map(disk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_looked_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["", "a", "missing", "b"].map(|name| dir.path().join(name));
        fs::create_dir(&paths[1]).unwrap();
        fs::create_dir(&paths[3]).unwrap();
        let seen = disks(&paths);
        assert_eq!(seen.iter().map(|disk| &disk.path).collect::<Vec<_>>(), [&paths[0]]);
        assert!(seen[0].total >= seen[0].used + seen[0].free && seen[0].free > 0);
    }

    #[test]
    fn the_host_shows_what_it_has() {
        let host = host();
        let memory = host.memory.unwrap();
        assert!(memory.total >= memory.available && memory.used > 0);
        let cpu = host.cpu.unwrap();
        assert!(cpu.total > cpu.busy && cpu.busy > 0);
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(super::host().tcp.unwrap() > 0);
    }

    #[test]
    fn connections_are_those_of_both_protocols() {
        let text = "sockets: used 13\nTCP: inuse 2 orphan 9 tw 3 alloc 9 mem 72\nUDP: inuse 4 mem 9\nUDPLITE: inuse 9\nTCP6: inuse 5\n";
        assert_eq!(connections(text, ["TCP:", "TCP6:"]), Some(10));
        assert_eq!(connections(text, ["UDP:", "UDP6:"]), Some(4));
        assert_eq!(connections("", ["UDP:", "UDP6:"]), None);
    }
}
