//! One job after the other while everything dies at random: workers, the coordinator, the broker, Redis and connections.
//!
//! `FANFOLD_SOAK_SECONDS` says for how long [default: 900], `FANFOLD_SOAK_SEED` what happens in which order. After each job every row is
//! there once; the memory of who lives on stays what it was.

#[allow(dead_code, reason = "the crash tests use the rest of it")]
#[path = "../crash/seed.rs"]
mod seed;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use self::seed::Random;
use crate::SLOW;
use crate::coordinators::{resident, resident_of};
use crate::running::Running;
use crate::support::{LIMIT, wait_for};
use crate::world::{World, kill_9};

/// From the last fault to the end of the job: two nodes may have to be lost one after the other.
const LAST: Duration = Duration::from_secs(180);
/// The exit code of a coordinator that finds no broker within 10 s.
const AWAY: i32 = 4;
/// A veteran may grow by so much over all jobs, KiB.
const GROWTH: u64 = 64 << 10;
/// Nobody of fanfold's is ever larger, KiB.
const MOST: u64 = 400 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillWorker,
    EndWorker,
    StopWorker,
    KillCoordinator,
    StopCoordinator,
    KillBroker,
    RestartBroker,
    CutConnections,
    RestartRedis,
    EmptyRedis,
}

/// How often each is drawn, of a hundred.
const MIX: [(u64, Fault); 10] = [
    (26, Fault::KillWorker),
    (10, Fault::EndWorker),
    (10, Fault::StopWorker),
    (18, Fault::KillCoordinator),
    (6, Fault::StopCoordinator),
    (6, Fault::KillBroker),
    (4, Fault::RestartBroker),
    (6, Fault::CutConnections),
    (7, Fault::RestartRedis),
    (7, Fault::EmptyRedis),
];

fn draw(random: &mut Random) -> Fault {
    let mut at = random.between(1, 100);
    for (weight, fault) in MIX {
        if at <= weight {
            return fault;
        }
        at -= weight;
    }
    unreachable!("the weights add up to a hundred")
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
        Err(_) => default,
    }
}

/// Memory of who is there, KiB: the most each ever had.
#[derive(Default)]
struct Memory {
    coordinator: u64,
    worker: u64,
    broker: u64,
    /// Of the worker that nobody touches, at the end of each job.
    veteran: Vec<u64>,
}

struct Soak {
    /// The first is left in peace: it has to bear everything that happens to the others. They end before their place is looked at.
    workers: Vec<Running>,
    coordinator: Option<Running>,
    world: World,
    random: Random,
    faults: BTreeMap<Fault, u64>,
    memory: Memory,
}

#[test]
#[ignore = "as long as FANFOLD_SOAK_SECONDS says"]
fn nothing_is_lost_or_doubled_however_long_it_lasts() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (seconds, seed) = (number("FANFOLD_SOAK_SECONDS", 900), number("FANFOLD_SOAK_SEED", clock));
    eprintln!("soak: FANFOLD_SOAK_SEED={seed}, {seconds} s");
    let world = World::with_broker();
    let workers = (0..3).map(|_| world.worker()).collect();
    let (faults, memory) = (BTreeMap::new(), Memory::default());
    let mut soak = Soak { world, random: Random::new(seed), workers, coordinator: None, faults, memory };
    let (began, mut jobs, mut rows) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        jobs += 1;
        rows += soak.job();
        let of_veteran = resident(&soak.workers[0]);
        soak.memory.veteran.push(of_veteran);
        eprintln!("soak: {:4.0} s, {jobs} jobs, {rows} rows, faults {:?}", began.elapsed().as_secs_f64(), soak.faults);
    }
    let Memory { coordinator, worker, broker, veteran } = &soak.memory;
    eprintln!(
        "soak: seed {seed}: {jobs} jobs, {rows} rows in {:.0} s, none lost, none doubled",
        began.elapsed().as_secs_f64()
    );
    eprintln!("soak: faults {:?}", soak.faults);
    eprintln!(
        "soak: at most {coordinator} KiB for a coordinator, {worker} for a worker, {broker} for the broker; the veteran: {veteran:?}"
    );
    let grown = veteran.last().unwrap_or(&0).saturating_sub(veteran[0]);
    assert!(grown < GROWTH, "the worker that nobody touched grew by {grown} KiB: {veteran:?}");
    assert!(*coordinator < MOST && *worker < MOST, "{coordinator} KiB, {worker} KiB");
}

/// Whether a worker is no node of any job, by its own word.
fn is_idle(worker: &Running) -> bool {
    let said = worker.said();
    said.rfind("left job") >= said.rfind("joining job")
}

impl Soak {
    /// Runs a job with some faults; how many rows it had.
    fn job(&mut self) -> u64 {
        // Whoever took a ticket of the job before just as it ended still writes there.
        wait_for("the workers to have left the job before", || self.workers.iter().all(is_idle).then_some(()));
        if self.world.place.job().exists() {
            fs::remove_dir_all(self.world.place.job()).expect("nobody writes there");
        }
        let count = self.random.between(400, 2000) as usize;
        // A mini-batch that happens to run alone when its worker is killed again and again is charged, and rightly so.
        let items = self.world.job(count, SLOW, "run_max_try: 1000\n");
        self.coordinator = Some(self.world.coordinator());
        let faults = self.random.between(1, 10);
        for _ in 0..faults {
            let pause = Duration::from_secs_f64(self.random.magnitude(0.1, 4.0));
            if self.ends_within(pause) {
                break;
            }
            let fault = draw(&mut self.random);
            *self.faults.entry(fault).or_default() += 1;
            self.strike(fault);
        }
        let ended = self.ends_within(LAST);
        let coordinator = self.coordinator.take().expect("it was started");
        assert!(ended, "the job stands still:\n{}", coordinator.said());
        coordinator.ends(LIMIT, 0);
        self.world.each_once_and_nothing_left(&items);
        items.len() as u64
    }

    /// Waits so long for the coordinator to end, and samples memory meanwhile.
    fn ends_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let coordinator = self.coordinator.as_mut().expect("it was started");
            self.memory.coordinator = self.memory.coordinator.max(resident(coordinator));
            let of_workers = self.workers.iter().map(resident).max().unwrap_or_default();
            self.memory.worker = self.memory.worker.max(of_workers);
            self.memory.broker = self.memory.broker.max(resident_of(self.world.broker().pid()));
            if !coordinator.is_alive() {
                if coordinator.code() != Some(AWAY) {
                    return true;
                }
                // It found no broker when it started, and said so: whoever started it does so again.
                self.coordinator = Some(self.world.coordinator());
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn strike(&mut self, fault: Fault) {
        let (world, random) = (&self.world, &mut self.random);
        let victim = random.between(1, self.workers.len() as u64 - 1) as usize;
        let moment = Duration::from_secs_f64(random.magnitude(0.5, 30.0));
        let coordinator = self.coordinator.as_ref().expect("it was started");
        match fault {
            Fault::KillWorker => {
                kill_9(&self.workers[victim]);
                self.workers[victim] = world.worker();
            }
            Fault::EndWorker => {
                let worker = std::mem::replace(&mut self.workers[victim], world.worker());
                worker.signal(Signal::SIGTERM);
                worker.ends(LIMIT, 0);
            }
            Fault::StopWorker => {
                self.workers[victim].signal(Signal::SIGSTOP);
                self.ends_within(moment);
                self.workers[victim].signal(Signal::SIGCONT);
            }
            Fault::KillCoordinator => {
                kill_9(coordinator);
                self.coordinator = None;
                self.coordinator = Some(self.world.coordinator());
            }
            Fault::StopCoordinator => {
                coordinator.signal(Signal::SIGSTOP);
                self.ends_within(moment);
                self.coordinator.as_ref().expect("it was started").signal(Signal::SIGCONT);
            }
            Fault::KillBroker => {
                world.broker().kill();
                world.broker().start_again();
            }
            Fault::RestartBroker => {
                world.broker().stop();
                world.broker().start_again();
            }
            Fault::CutConnections => world.broker().close_all_connections(),
            Fault::RestartRedis => {
                world.redis.stop();
                world.redis.start_again();
            }
            Fault::EmptyRedis => world.redis.flush(),
        }
    }
}
