//! A script that writes down what it sees of the world.

use std::fs;

use crate::support::Place;

/// Writes `seen/<process>.json` in `init()`, and echoes when all processes have.
pub const PROBE: &str = r#"
import json
import os
import sys
import time

from azureml_user.parallel_run import EntryScript

def init():
    entry = EntryScript()
    seen = {
        "argv": sys.argv,
        "env": dict(os.environ),
        "cwd": os.getcwd(),
        "file": __file__,
        "name": __name__,
        "path": sys.path,
        "same": EntryScript() is entry,
        "log_dir": entry.log_dir,
        "output_dir": entry.output_dir,
        "working_dir": entry.working_dir,
        "agent_name": entry.agent_name,
        "node_id": entry.node_id,
        "level": entry.logger.level,
        "stdin": sys.stdin.read(),
        "executable": sys.executable,
    }
    path = os.path.join(os.environ["SEEN"], entry.agent_name + ".json")
    with open(path, "w") as file:
        json.dump(seen, file)

def run(mini_batch):
    # Else one process might do it all before the others are there.
    processes = int(sys.argv[sys.argv.index("--process_count_per_node") + 1])
    while len(os.listdir(os.environ["SEEN"])) < processes:
        time.sleep(0.01)
    return mini_batch
"#;

/// A job over `items.txt` (4 items, two processes) whose script is the probe; `more` are further lines of the job file.
pub fn probing(more: &str) -> Place {
    let place = Place::new();
    place.write_items(4);
    fs::create_dir(place.path("seen")).unwrap();
    place.write("score.py", PROBE);
    let yaml = format!(
        "name: probe\nentry_script: score.py\ninputs: {{names: items.txt}}\ninput_type: lines\nmini_batch_size: 1\n\
         process_count_per_node: 2\nenvironment_variables: {{SEEN: '{}', OWN: mine}}\n{more}",
        place.path("seen").display()
    );
    place.write("job.yaml", yaml);
    place
}

/// What the process called `name` saw.
pub fn seen(place: &Place, name: &str) -> serde_json::Value {
    let text = fs::read(place.path(format!("seen/{name}.json"))).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&text).unwrap()
}

/// Runs the job and returns what its first process saw.
pub fn run(place: &Place) -> serde_json::Value {
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    seen(place, "process000")
}
