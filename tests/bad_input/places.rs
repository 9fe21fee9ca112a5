//! Job directories that can't be one, or not now.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{SCRIPT, held, interrupt, job_file, paused, place, refused, refused_with, started_by};
use crate::support::{FANFOLD, assert_each_once};

#[test]
fn a_directory_that_holds_something_else_is_not_taken() {
    let place = place();
    place.write("photos/a.png", "precious");
    insta::assert_snapshot!(refused(&place, &["job.yaml", "--job-dir", "photos"]), @r#"
    error: `photos` is not empty and holds no fanfold job
    hint: give a directory that does not exist yet, or that of a job to continue it
    "#);
    insta::assert_snapshot!(refused(&place, &["job.yaml", "--job-dir", "photos/a.png"]), @r#"
    error: `photos/a.png` can't be a job directory: `photos/a.png` is a file
    hint: give a directory that does not exist yet; `--job-dir` is where the job's files go
    "#);
    insta::assert_snapshot!(refused(&place, &["job.yaml", "--job-dir", "photos/a.png/job"]), @r#"
    error: `photos/a.png/job` can't be a job directory: `photos/a.png` is a file
    hint: give a directory that does not exist yet; `--job-dir` is where the job's files go
    "#);
}

#[test]
fn the_directory_of_another_job_is_not_taken() {
    let place = place();
    paused(&place);
    place.write("more.txt", "item-100\n");
    place.write("other.yaml", job_file(&place, &[("inputs", "[more.txt]"), ("mini_batch_size", "2")]));
    insta::assert_snapshot!(refused(&place, &["other.yaml", "--job-dir", "job"]), @r#"
    error: `job` holds another job, echo-<id>: inputs was {input0: "items.txt"}, is {input0: "more.txt"}; mini_batch_size was 1, is 2
    hint: leave `--job-dir` out or name a new directory to run this as a new job; say the same again (job file, `--set`) to continue the old one
    "#);
}

#[test]
fn a_refused_job_leaves_nothing_so_that_the_corrected_one_can_have_its_directory() {
    let place = place();
    place.write("job.yaml", job_file(&place, &[("inputs", "[\"*.tx\"]")]));
    refused(&place, &["job.yaml", "--job-dir", "job"]);
    // An empty directory stays what it was.
    fs::create_dir(place.job()).unwrap();
    refused(&place, &["job.yaml", "--job-dir", "job"]);
    refused(&place, &["job.yaml"]);
    place.write("job.yaml", job_file(&place, &[]));
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_eq!(place.rows().len(), 20);
}

#[test]
fn a_job_that_another_program_runs_is_left_to_it() {
    let place = place();
    let child = held(&place);
    let again = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
    insta::assert_snapshot!(super::told::told(&again.stderr, &place.path(""), "echo"), @r#"
    error: job directory `<place>/job` is in use by process <pid> on <host> since <time>
    hint: wait for it or stop it; `fanfold status` shows what it does
    "#);
    interrupt(&place, child).expect(130);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &(0..20).map(|i| format!("item-{i:03}")).collect::<Vec<_>>());
}

#[test]
fn a_job_directory_that_cannot_be_written_is_refused() {
    let place = place();
    fs::create_dir(place.path("closed")).unwrap();
    let mode = |path: &str, mode| fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("", 0o755);
    mode("closed", 0o555);
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", FANFOLD];
    let mut command = match nix::unistd::geteuid().is_root() {
        // Nothing is closed to root.
        true => started_by(&place, "setpriv", &nobody),
        false => place.fanfold(),
    };
    command.args(["run", "job.yaml", "--job-dir", "closed/job"]);
    insta::assert_snapshot!(refused_with(&place, &mut command, 2), @r#"
    error: cannot create `closed/job/.fanfold`
      cause: Permission denied (os error 13)
    hint: check the owner and the mode of that path
    "#);
    mode("closed", 0o755);
}

#[test]
fn a_disk_without_room_refuses_the_job_and_says_so() {
    let place = place();
    fs::create_dir(place.path("full")).unwrap();
    let small = format!("mount -t tmpfs -o size=16k tmpfs '{}'", place.path("full").display());
    let may = Command::new("unshare").args(["-m", "sh", "-c", &small]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this user may not mount a file system of 16 KiB");
        return;
    }
    place.write("big.py", format!("{SCRIPT}# {}\n", "x".repeat(64 << 10)));
    let line = format!("{small} && exec \"$0\" run job.yaml --job-dir full/job --set entry_script=big.py");
    let mut command = started_by(&place, "unshare", &["-m", "sh", "-c", &line, FANFOLD]);
    insta::assert_snapshot!(refused_with(&place, &mut command, 1), @r#"
    error: cannot write `full/job/.fanfold/snapshot.building/big.py`
      cause: No space left on device (os error 28)
    hint: make room on that file system, then run the same command again: nothing is lost
    "#);
}
