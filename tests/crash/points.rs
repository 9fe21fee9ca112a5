//! The named points, as the sources have them: a point that nobody added to a list is found all the same.

use std::fs;
use std::path::{Path, PathBuf};

/// A point in the sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Where it is, for messages.
    pub file: PathBuf,
}

/// What a point does when it is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// It kills the program: `failpoint!`.
    Kill,
    /// It makes an operation fail: `failpoint_error!`.
    #[allow(dead_code, reason = "each test binary uses its own part")]
    Fail,
}

/// Points with this in front of their name are reached on a fleet only; `tests/fleet` does.
const FLEET: &str = "fleet_";

/// Points with this in front of their name are reached where the output is uploaded; `tests/uploads` does.
const UPLOAD: &str = "upload_";

/// Points with this in front of their name are reached where a retry takes a new script; `tests/new_script.rs` does.
const SCRIPT: &str = "script_";

/// Operations with this in front of their name make a job Failed, which is not gone on with; `tests/tables` does.
const NODE: &str = "node_";

/// Every point of that kind that a job on one machine can reach, each name once.
#[allow(dead_code, reason = "each test binary uses its own part")]
pub fn in_the_sources(does: Does) -> Vec<Point> {
    let elsewhere = [FLEET, UPLOAD, SCRIPT, NODE];
    all(does).into_iter().filter(|point| !elsewhere.iter().any(|of| point.name.starts_with(of))).collect()
}

/// Every point at which the program may be killed while it uploads.
#[allow(dead_code, reason = "each test binary uses its own part")]
pub fn of_the_upload() -> Vec<Point> {
    all(Does::Kill).into_iter().filter(|point| point.name.starts_with(UPLOAD)).collect()
}

/// Every point at which the program may be killed while it takes a new script.
#[allow(dead_code, reason = "each test binary uses its own part")]
pub fn of_the_script() -> Vec<Point> {
    all(Does::Kill).into_iter().filter(|point| point.name.starts_with(SCRIPT)).collect()
}

/// Every point at which a program of a fleet may be killed and no other.
#[allow(dead_code, reason = "each test binary uses its own part")]
pub fn of_the_fleet() -> Vec<Point> {
    all(Does::Kill).into_iter().filter(|point| point.name.starts_with(FLEET)).collect()
}

fn all(does: Does) -> Vec<Point> {
    let call = match does {
        Does::Kill => "failpoint!(\"",
        Does::Fail => "failpoint_error!(\"",
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut points = Vec::new();
    for crate_dir in ["shared", "worker", "coordinator"] {
        scan(&root, &root.join(crate_dir).join("src"), call, &mut points);
    }
    points.sort();
    points.dedup_by(|a, b| a.name == b.name);
    points
}

fn scan(root: &Path, dir: &Path, call: &str, points: &mut Vec<Point>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scan(root, &path, call, points);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names =
                text.split(call).skip(1).map(|rest| rest.split('"').next().expect("split gives one").to_string());
            let file = path.strip_prefix(root).expect("below the root").to_path_buf();
            points.extend(names.map(|name| Point { name, file: file.clone() }));
        }
    }
}
