//! What a look comes to, as text. Pure.
//!
//! The columns of the host are the original's, with `psutil`'s meaning: a megabyte has 1,048,576 bytes, counters run since boot, the
//! processors' share is that since the look before, 0 at the first. The columns of the other tables it never published.

use std::io::Write;

use fanfold_shared::clock::Stamper;
use fanfold_shared::text::{one_line, push_csv};

use super::processes::{Listed, Own};
use super::sample::{Cpu, Disk, Sample};

pub(super) const HOST: &str = "Utc Time,Cpu Percent,Memory Total (MB),Memory Available (MB),Memory Used (MB),Memory Used Percent,\
                               Disk Io Read Count,Disk Io Write Count,Disk Io Read (MB),Disk Io Write (MB),Network Sent (MB),\
                               Network Recv (MB),# of TCP Connections,# of UDP Connections";
pub(super) const DISKS: &str = "Utc Time,Path,Total (MB),Used (MB),Free (MB),Used Percent";
pub(super) const PROCESSES: &str = "Utc Time,Process,Pid,Parent Pid,Cpu Percent,Memory Rss (MB),Memory Percent,Threads,Open Files,\
                                    Gpu Memory (MB),Gpu Memory per Device (MB),Command";
pub(super) const LIST: &str = "    PID    PPID     UID         TIME     RSS KiB COMMAND";

const MIB: f64 = (1u64 << 20) as f64;
/// The kernel counts in hundredths of a second: over less no share can be told.
const LEAST_NS: u64 = 10_000_000;

/// A row of the host; `before`: what the last look saw.
pub(super) fn host(out: &mut Vec<u8>, stamper: &mut Stamper, now: &Sample, before: Option<&Sample>) {
    let cpu = now.host.cpu.map(|cpu| busy_percent(cpu, before.and_then(|before| before.host.cpu)));
    let memory = now.host.memory;
    let (io, network) = (now.host.disk_io, now.host.network);
    stamper.write_iso(out, now.at_us);
    cell(out, cpu.map(tenth));
    cell(out, memory.map(|memory| mb(memory.total)));
    cell(out, memory.map(|memory| mb(memory.available)));
    cell(out, memory.map(|memory| mb(memory.used)));
    cell(out, memory.map(|memory| tenth(percent(memory.total - memory.available, memory.total))));
    cell(out, io.map(|io| io.reads));
    cell(out, io.map(|io| io.writes));
    cell(out, io.map(|io| mb(io.read_bytes)));
    cell(out, io.map(|io| mb(io.written_bytes)));
    cell(out, network.map(|network| mb(network.sent)));
    cell(out, network.map(|network| mb(network.received)));
    cell(out, now.host.tcp);
    cell(out, now.host.udp);
}

/// A row of a file system.
pub(super) fn disk(out: &mut Vec<u8>, stamper: &mut Stamper, at_us: u64, disk: &Disk) {
    stamper.write_iso(out, at_us);
    out.push(b',');
    push_csv(out, &one_line(&disk.path.to_string_lossy(), usize::MAX));
    for bytes in [disk.total, disk.used, disk.free] {
        cell(out, Some(mb(bytes)));
    }
    // As `df`: what is kept back for root counts neither way.
    cell(out, Some(tenth(percent(disk.used, disk.used + disk.free))));
}

/// A row of a process of the node.
pub(super) fn process(out: &mut Vec<u8>, stamper: &mut Stamper, now: &Sample, before: Option<&Sample>, own: &Own) {
    let is_same = |other: &&Own| (other.pid, other.started_ns) == (own.pid, own.started_ns);
    let earlier = before.and_then(|before| Some((before.boot_ns, before.own.iter().find(is_same)?.cpu_ns)));
    // Of a new one all counts, since it started.
    let (since, spent) = earlier.unwrap_or((own.started_ns, 0));
    let elapsed = now.boot_ns.saturating_sub(since).max(LEAST_NS);
    let cpu = percent(own.cpu_ns.saturating_sub(spent), elapsed);
    let memory = now.host.memory.map(|memory| percent(own.rss, memory.total));
    stamper.write_iso(out, now.at_us);
    cell(out, own.process);
    cell(out, Some(own.pid));
    cell(out, Some(own.parent));
    cell(out, Some(tenth(cpu)));
    cell(out, Some(mb(own.rss)));
    cell(out, memory.map(tenth));
    cell(out, Some(own.threads));
    cell(out, own.open_files);
    cell(out, (!own.gpu.is_empty()).then(|| mb(own.gpu.iter().map(|(_, bytes)| bytes).sum())));
    let devices: Vec<String> = own.gpu.iter().map(|(device, bytes)| format!("{device}:{}", mb(*bytes))).collect();
    cell(out, Some(devices.join(" ")));
    out.push(b',');
    push_csv(out, &own.command);
}

/// A line of the list of all processes, as `ps` would have it.
pub(super) fn listed(out: &mut Vec<u8>, one: &Listed) {
    let user = one.user.map_or("?".into(), |user| user.to_string());
    let (rss, seconds) = (one.rss >> 10, one.cpu_ns / 1_000_000_000);
    let (days, clock) = (seconds / 86_400, [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60]);
    let clock = clock.map(|part| format!("{part:02}")).join(":");
    let time = if days > 0 { format!("{days}-{clock}") } else { clock };
    let _ = write!(out, "{:>7} {:>7} {user:>7} {time:>12} {rss:>11} {}", one.pid, one.parent, one.command);
}

fn busy_percent(now: Cpu, before: Option<Cpu>) -> f64 {
    let Some(before) = before else { return 0.0 };
    // Waiting for a disk may be taken back by the kernel.
    percent(now.busy.saturating_sub(before.busy), now.total.saturating_sub(before.total)).min(100.0)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn tenth(value: f64) -> String {
    format!("{value:.1}")
}

fn mb(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / MIB)
}

/// Appends a comma and a number, or nothing after it.
fn cell(out: &mut Vec<u8>, value: Option<impl std::fmt::Display>) {
    out.push(b',');
    if let Some(value) = value {
        let _ = write!(out, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use fanfold_shared::ids::ProcessNumber;

    use super::super::sample::{DiskIo, Host, Memory, Network};
    use super::*;

    const THEN: u64 = 1_795_228_735_226_929;
    const SECOND: u64 = 1_000_000_000;

    fn text(write: impl FnOnce(&mut Vec<u8>, &mut Stamper)) -> String {
        let mut out = Vec::new();
        write(&mut out, &mut Stamper::default());
        String::from_utf8(out).unwrap()
    }

    fn sample(cpu: (u64, u64), own: Vec<Own>) -> Sample {
        let host = Host {
            cpu: Some(Cpu { busy: cpu.0, total: cpu.1 }),
            memory: Some(Memory { total: 4 << 30, available: 3 << 30, used: 1 << 29 }),
            disk_io: Some(DiskIo { reads: 7, writes: 8, read_bytes: 1 << 20, written_bytes: 3 << 19 }),
            network: Some(Network { sent: 1 << 30, received: 0 }),
            tcp: Some(12),
            udp: None,
        };
        Sample { at_us: THEN, boot_ns: 100 * SECOND, host, own, ..Sample::default() }
    }

    fn own(process: Option<u32>, cpu_ns: u64) -> Own {
        Own {
            process: process.map(ProcessNumber),
            pid: 50,
            parent: 10,
            started_ns: 90 * SECOND,
            cpu_ns,
            rss: 1 << 30,
            threads: 4,
            open_files: Some(9),
            gpu: vec![(0, 512 << 20), (2, 1 << 20)],
            command: "python3 -c 'a, \"b\"'".into(),
        }
    }

    #[test]
    fn a_row_of_the_host_has_a_cell_for_each_column() {
        let row = |before: Option<&Sample>| text(|out, stamper| host(out, stamper, &sample((40, 200), vec![]), before));
        let rest = "4096.00,3072.00,512.00,25.0,7,8,1.00,1.50,1024.00,0.00,12,";
        assert_eq!(row(None), format!("2026-11-21T02:38:55.226929,0.0,{rest}"));
        assert_eq!(row(Some(&sample((20, 160), vec![]))), format!("2026-11-21T02:38:55.226929,50.0,{rest}"));
        let nothing = text(|out, stamper| host(out, stamper, &Sample::default(), None));
        for line in [row(None), nothing] {
            assert_eq!(line.split(',').count(), HOST.split(',').count(), "{line}");
        }
        let odd = [Some((50, 150)), Some((40, 200)), Some((0, 200))];
        let odd = odd
            .map(|before| busy_percent(Cpu { busy: 40, total: 200 }, before.map(|(busy, total)| Cpu { busy, total })));
        assert_eq!(odd, [0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_row_of_a_process_counts_since_the_last_look_or_since_its_start() {
        let row = |now: &Own, before: Option<&Sample>| {
            text(|out, stamper| process(out, stamper, &sample((0, 0), vec![]), before, now))
        };
        let rest = "1024.00,25.0,4,9,513.00,0:512.00 2:1.00,\"python3 -c 'a, \"\"b\"\"'\"";
        let now = own(Some(3), 5 * SECOND);
        assert_eq!(row(&now, None), format!("2026-11-21T02:38:55.226929,process003,50,10,50.0,{rest}"));
        let before = Sample { boot_ns: 98 * SECOND, ..sample((0, 0), vec![own(Some(3), 2 * SECOND)]) };
        assert_eq!(row(&now, Some(&before)), format!("2026-11-21T02:38:55.226929,process003,50,10,150.0,{rest}"));
        let other = Own { started_ns: 99 * SECOND, cpu_ns: SECOND / 2, process: None, ..now };
        assert_eq!(row(&other, Some(&before)), format!("2026-11-21T02:38:55.226929,,50,10,50.0,{rest}"));
        let bare = Own { gpu: vec![], open_files: None, command: "sleep".into(), ..other };
        let bare = text(|out, stamper| process(out, stamper, &Sample::default(), None, &bare));
        assert!(bare.ends_with(",1024.00,,4,,,,sleep"), "{bare}");
        assert_eq!(bare.split(',').count(), PROCESSES.split(',').count());
    }

    #[test]
    fn a_row_of_a_file_system_leaves_out_what_root_keeps() {
        let one = Disk { path: "/a,b\n".into(), total: 100 << 20, used: 30 << 20, free: 60 << 20 };
        let row = text(|out, stamper| disk(out, stamper, THEN, &one));
        assert_eq!(row, "2026-11-21T02:38:55.226929,\"/a,b\",100.00,30.00,60.00,33.3");
    }

    #[test]
    fn the_list_reads_like_ps() {
        let one = |user, cpu| Listed {
            pid: 50,
            parent: 10,
            user,
            cpu_ns: cpu * SECOND,
            rss: 8 << 20,
            command: "sh -c x".into(),
        };
        let lines = [one(Some(1000), 3_725), one(None, 90_061)].map(|one| text(|out, _| listed(out, &one)));
        assert_eq!(lines[0], "     50      10    1000     01:02:05        8192 sh -c x");
        assert_eq!(lines[1], "     50      10       ?   1-01:01:01        8192 sh -c x");
        assert_eq!(lines[0].find("sh"), LIST.find("COMMAND"));
    }
}
