//! Inputs that change under a job, and things in an input folder that are no files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::sys::stat::Mode;

use crate::running::{GATED, Running, open_gate, wait_until_begun};
use crate::support::{LIMIT, Place, assert_each_once};

fn files(place: &Place, names: &[&str], more: &str) {
    for name in names {
        place.write(format!("data/{name}"), format!("content of {name}"));
    }
    let script = GATED.replace(
        "    return mini_batch\n",
        "    return [os.path.basename(item) + ' ' + open(item).read() for item in mini_batch]\n",
    );
    place.write("score.py", script);
    let yaml = format!(
        "name: attack\nentry_script: score.py\ninputs: [data]\nmini_batch_size: 1\nprocess_count_per_node: 2\n\
         environment_variables: {{PLACE: '{}'}}\n{more}",
        place.path("").display()
    );
    place.write("job.yaml", yaml);
}

fn row(name: &str) -> String {
    format!("{name} content of {name}")
}

/// The messages of `errors.jsonl` by the item's file name; all of kind `input`.
fn refusals(place: &Place) -> Vec<(String, String)> {
    let mut refusals: Vec<_> = place
        .errors()
        .iter()
        .map(|error| {
            assert_eq!(error["kind"], "input", "{error:#}");
            let item = error["item"].as_str().unwrap_or_else(|| panic!("{error:#}"));
            let name = Path::new(item).file_name().unwrap().to_str().unwrap();
            (name.to_string(), error["message"].as_str().unwrap().to_string())
        })
        .collect();
    refusals.sort();
    refusals
}

#[test]
fn files_that_change_under_a_job_fail_as_items_and_nothing_else_does() {
    let place = Place::new();
    let names = [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "grown",
        "gone",
        "pipe",
        "folder",
        "loop",
        "same-size",
        "truncated",
        "z",
    ];
    files(&place, &names, "");
    let data = |name: &str| place.path(format!("data/{name}"));
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    let replace = |name: &str| fs::remove_file(data(name)).unwrap();
    fs::write(data("grown"), "content of grown, and more").unwrap();
    replace("gone");
    replace("pipe");
    nix::unistd::mkfifo(&data("pipe"), Mode::S_IRWXU).unwrap();
    replace("folder");
    fs::create_dir(data("folder")).unwrap();
    replace("loop");
    symlink("loop", data("loop")).unwrap();
    fs::write(data("same-size"), "CONTENT of same-size").unwrap();
    fs::write(data("truncated"), "").unwrap();
    open_gate(&place);
    running.ends(LIMIT, 5);
    assert_each_once(&place.rows(), &["0", "1", "2", "3", "4", "5", "6", "7", "z"].map(row));
    let refusals = refusals(&place);
    let expected = [
        ("folder", "is a directory"),
        ("gone", "vanished"),
        ("grown", "changed since the job listed it: size 16 -> 26"),
        ("loop", "symbolic link that leads back to itself"),
        ("pipe", "is a named pipe"),
        ("same-size", "changed since the job listed it: modified"),
        ("truncated", "size 20 -> 0"),
    ];
    assert_eq!(refusals.len(), expected.len(), "{refusals:?}");
    for ((name, message), (expected_name, part)) in refusals.iter().zip(expected) {
        assert!(name == expected_name && message.contains(part), "{name}: {message}");
    }
    assert_eq!(place.status()["counts"]["attempts_failed"], 0, "nobody ran them, nobody is charged");
}

#[test]
fn what_is_no_file_in_a_folder_is_left_out_and_said() {
    let place = Place::new();
    files(&place, &["a", "b"], "");
    let data = place.path("data");
    nix::unistd::mkfifo(&data.join("pipe"), Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
    symlink(&data, data.join("loop")).unwrap();
    fs::create_dir(data.join("sub")).unwrap();
    symlink("../sub", data.join("sub/again")).unwrap();
    symlink("nowhere", data.join("dangling")).unwrap();
    open_gate(&place);
    let said = Running::job(&place).ends(LIMIT, 5);
    assert_each_once(&place.rows(), &["a", "b"].map(row));
    for what in ["2 pipes, sockets or devices", "2 symbolic links to a folder that they lie in"] {
        assert!(said.contains(what), "`{what}` is not mentioned:\n{said}");
    }
    let refusals = refusals(&place);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    let (name, message) = &refusals[0];
    assert!(name == "dangling" && message.ends_with("dangling`: is a link to nowhere"), "{message}");
    assert!(said.contains(message), "the file is not named:\n{said}");
}

#[test]
fn a_pipe_as_input_is_refused_and_not_waited_for() {
    for kind in ["files", "lines"] {
        let place = Place::new();
        files(&place, &["a"], "");
        nix::unistd::mkfifo(&place.path("pipe"), Mode::S_IRWXU).unwrap();
        let said = place
            .run(&[
                "run",
                "job.yaml",
                "--job-dir",
                "job",
                "--set",
                "inputs=[pipe]",
                "--set",
                &format!("input_type={kind}"),
            ])
            .expect(2);
        assert!(said.stderr.contains("pipe"), "{}", said.stderr);
    }
}

#[test]
fn a_file_that_may_not_be_read_fails_as_an_item() {
    let place = Place::new();
    files(&place, &["a", "b", "secret"], "");
    fs::set_permissions(place.path("data/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    open_gate(&place);
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    as_an_ordinary_user(&place, &mut command);
    Running::start(&place, command).ends(LIMIT, 5);
    assert_each_once(&place.rows(), &["a", "b"].map(row));
    let refusals = refusals(&place);
    assert_eq!(
        refusals,
        [("secret".to_string(), format!("`{}`: permission denied", place.path("data/secret").display()))]
    );
}

/// Root may do everything: then the program runs as somebody else, to whom the place belongs.
pub fn as_an_ordinary_user(place: &Place, command: &mut std::process::Command) {
    const NOBODY: u32 = 65534;
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let give = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(place.path("")).status();
    assert!(give.unwrap().success());
    command.uid(NOBODY).gid(NOBODY).env("HOME", place.path(""));
}
