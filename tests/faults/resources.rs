//! Descriptors, processes and memory that run out.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

use crate::inputs::as_an_ordinary_user;
use crate::running::{GATED, Running, begun, job_of, open_gate};
use crate::support::{LIMIT, Place, assert_each_once, wait_for};

/// The job as an ordinary user under a limit, soft and hard.
fn limited(place: &Place, resource: Resource, limit: u64) -> Running {
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    as_an_ordinary_user(place, &mut command);
    // SAFETY: a system call; it comes after the change of the user.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(resource, limit, limit)?));
    }
    Running::start(place, command)
}

fn open_job(place: &Place, items: usize, more: &str) -> Vec<String> {
    let items = place.write_items(items);
    job_of(place, GATED, more);
    place.write("begun.txt", "");
    open_gate(place);
    items
}

#[test]
fn sixty_four_descriptors_are_enough() {
    let place = Place::new();
    let items = open_job(&place, 40, "");
    limited(&place, Resource::RLIMIT_NOFILE, 64).ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
}

#[test]
fn too_few_descriptors_for_all_processes_make_it_slower_and_are_said() {
    let place = Place::new();
    let items = open_job(&place, 200, "");
    replace_processes(&place, 30);
    let said = limited(&place, Resource::RLIMIT_NOFILE, 64).ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
    assert!(said.contains("2 of 30 processes run") && said.contains("ulimit -n"), "{said}");
}

#[test]
fn far_too_few_descriptors_are_named() {
    let place = Place::new();
    open_job(&place, 40, "");
    let said = limited(&place, Resource::RLIMIT_NOFILE, 12).ends(LIMIT, 1);
    assert!(said.contains("Too many open files") || said.contains("ulimit -n"), "{said}");
}

#[test]
fn too_few_processes_allowed_make_it_slower_and_are_said() {
    let place = Place::new();
    let items = place.write_items(200);
    job_of(&place, GATED, "");
    place.write("begun.txt", "");
    replace_processes(&place, 30);
    let job = limited(&place, Resource::RLIMIT_NPROC, 50);
    // Few processes could do all the work before the others are tried: nothing gets on until one was refused.
    wait_for("a refused process", || {
        let log = fs::read_to_string(place.job().join("logs/sys/error/0/_main.txt")).ok()?;
        log.contains("Resource temporarily unavailable").then_some(())
    });
    open_gate(&place);
    job.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
}

#[test]
fn no_process_allowed_at_all_fails_the_job_with_the_reason() {
    let place = Place::new();
    open_job(&place, 40, "");
    let said = limited(&place, Resource::RLIMIT_NPROC, 1).ends(LIMIT, 1);
    assert!(said.contains("Resource temporarily unavailable") || said.contains("ulimit -u"), "{said}");
}

#[test]
fn memory_that_the_limits_deny_fails_the_item_and_spares_its_neighbours() {
    let place = Place::new();
    let script = format!(
        "{GATED}\ninner = run\ndef run(mini_batch):\n    if 'item-003' in mini_batch:\n        bytearray(8 << 30)\n    return inner(mini_batch)\n"
    );
    let items = place.write_items(12);
    job_of(&place, &script, "");
    place.write("begun.txt", "");
    open_gate(&place);
    limited(&place, Resource::RLIMIT_AS, 4_000_000_000).ends(LIMIT, 5);
    let others: Vec<String> = items.into_iter().filter(|item| item != "item-003").collect();
    assert_each_once(&place.rows(), &others);
    assert_each_once(&begun(&place), &others);
    assert!(place.errors().iter().any(|error| error["kind"] == "oom"), "{:?}", place.errors());
}

fn replace_processes(place: &Place, count: u32) {
    let yaml = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", yaml.replace("process_count_per_node: 2", &format!("process_count_per_node: {count}")));
}

#[test]
fn two_hundred_processes_on_whatever_cores_there_are() {
    let place = Place::new();
    let items = open_job(&place, 1000, "");
    replace_processes(&place, 200);
    Running::job(&place).ends(2 * LIMIT, 0);
    assert_each_once(&place.rows(), &items);
    assert_eq!(place.status()["counts"]["attempts_failed"], 0);
}

#[test]
fn closed_standard_streams_hurt_nobody() {
    let place = Place::new();
    let items = open_job(&place, 20, "");
    let fanfold = place.fanfold();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(fanfold.get_program());
    command.args(["run", "job.yaml", "--job-dir", "job"]).current_dir(place.path(""));
    command.envs(fanfold.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Running::start(&place, command).ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
}

#[test]
fn a_gigabyte_of_text_is_capped() {
    let place = Place::new();
    let items = place.write_items(4);
    let script = "import os, sys\nLINE = 'x' * 9999 + '\\n'\nDATA = LINE.encode() * 100\ndef run(mini_batch):\n    \
                  for _ in range(130):\n        os.write(1, DATA)\n        os.write(2, DATA)\n    \
                  for _ in range(2500):\n        sys.stdout.write(LINE)\n    return mini_batch\n";
    job_of(&place, script, "");
    Running::job(&place).ends(2 * LIMIT, 0);
    assert_each_once(&place.rows(), &items);
    let mut seen = 0;
    for folder in ["sys/node/0", "user/stdout/0", "user/stderr/0"] {
        for entry in fs::read_dir(place.job().join("logs").join(folder)).unwrap().flatten() {
            let len = entry.metadata().unwrap().len();
            assert!(len < (64 << 20) + 1000, "{}: {len} bytes", entry.path().display());
            seen += u32::from(len > 60 << 20);
        }
    }
    assert!(seen >= 2, "the script did write that much");
}
