//! How a script is found, imported and called.

use std::fs;

use crate::support::{Place, assert_each_once};

/// A job over `items.txt` in a source directory of its own; the caller writes the files of that.
fn job(entry_script: &str, more: &str) -> Place {
    let place = Place::new();
    place.write_items(6);
    let yaml = format!(
        "name: contract\nentry_script: {entry_script}\nsource_directory: source\ninputs: [items.txt]\n\
         input_type: lines\nmini_batch_size: 2\nprocess_count_per_node: 2\n{more}"
    );
    place.write("job.yaml", yaml);
    place
}

fn rows(place: &Place) -> Vec<String> {
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    place.rows()
}

#[test]
fn a_script_in_a_folder_finds_what_lies_beside_it_and_at_the_root() {
    let place = job("steps/score.py", "");
    place.write(
        "source/steps/score.py",
        "import beside\nfrom helpers.deep import tool\nimport at_root\n\
         def run(mini_batch):\n    return [tool.of(beside.of(at_root.of(item))) for item in mini_batch]\n",
    );
    place.write("source/steps/beside.py", "def of(text):\n    return text + ' beside'\n");
    place.write("source/at_root.py", "def of(text):\n    return text + ' root'\n");
    place.write("source/helpers/__init__.py", "");
    place.write("source/helpers/deep/__init__.py", "");
    place.write("source/helpers/deep/tool.py", "def of(text):\n    return text + ' tool'\n");
    assert!(rows(&place).iter().all(|row| row.ends_with(" root beside tool")));
}

#[test]
fn a_dotted_module_with_relative_imports() {
    let place = job("package.main", "");
    place.write("source/package/__init__.py", "NAME = 'package'\n");
    place.write(
        "source/package/main.py",
        "from . import NAME\nfrom .inner import WORD\n\
         def run(mini_batch):\n    return [item + ' ' + __name__ + ' ' + NAME + ' ' + WORD for item in mini_batch]\n",
    );
    place.write("source/package/inner/__init__.py", "WORD = 'inner'\n");
    assert!(rows(&place).iter().all(|row| row.ends_with(" package.main package inner")));
}

#[test]
fn a_script_without_a_source_directory_has_the_python_files_beside_it() {
    let place = Place::new();
    place.write_items(4);
    place.write("scripts/score.py", "import helper, os\ndef run(mini_batch):\n    return [helper.WORD + ' ' + ' '.join(sorted(n for n in os.listdir('.') if not n.startswith('__'))) for item in mini_batch]\n");
    place.write("scripts/helper.py", "WORD = 'helped'\n");
    place.write("scripts/data.bin", "not taken");
    place.write("job.yaml", "name: contract\nentry_script: scripts/score.py\ninputs: [items.txt]\ninput_type: lines\n");
    assert_eq!(rows(&place), ["helped helper.py score.py"; 4]);
}

#[test]
fn init_once_run_often_shutdown_once_and_all_again_in_a_replacement() {
    let place = job("score.py", "");
    place.write(
        "source/score.py",
        r#"
import os
import time
from azureml_user.parallel_run import EntryScript

calls = []

def note(what):
    calls.append(what)
    path = os.path.join(EntryScript().output_dir, EntryScript().agent_name)
    with open(path, "a") as file:
        file.write(what + "\n")

def init():
    note("init")

def run(mini_batch):
    note("run")
    if EntryScript().agent_name == "process001":
        os._exit(0)
    # Nobody gets on before the replacement has run something: one that is still in init() when all is done is not waited for.
    third = os.path.join(EntryScript().output_dir, "process002")
    while not (os.path.exists(third) and "run" in open(third).read()):
        time.sleep(0.01)
    assert calls[0] == "init" and calls.count("init") == 1
    return mini_batch

def shutdown():
    note("shutdown")
"#,
    );
    let rows = rows(&place);
    assert_eq!(rows.len(), 6);
    let output = place.job().join("output");
    let mut healthy = 0;
    for entry in fs::read_dir(&output).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("process") {
            continue;
        }
        let calls = fs::read_to_string(entry.path()).unwrap();
        let calls: Vec<&str> = calls.lines().collect();
        assert_eq!(calls.iter().filter(|call| **call == "init").count(), 1, "{name}: {calls:?}");
        assert_eq!(calls[0], "init", "{name}: {calls:?}");
        if calls.last() == Some(&"shutdown") {
            assert_eq!(calls.iter().filter(|call| **call == "shutdown").count(), 1, "{name}: {calls:?}");
            healthy += 1;
        }
    }
    assert_eq!(healthy, 2, "the two that lived to the end");
    assert!(output.join("process002").exists(), "the dead one was replaced by the next number");
}

#[test]
fn a_script_needs_nothing_but_run() {
    let place = job("score.py", "");
    place.write("source/score.py", "run = lambda anything: list(anything)\n");
    assert_eq!(rows(&place).len(), 6);
}

#[test]
fn the_context_is_there_for_those_who_ask() {
    let place = job("score.py", "");
    place.write(
        "source/score.py",
        "import re\ndef run(mini_batch, context):\n    \
         assert re.fullmatch(r'[A-Za-z0-9_.-]+', context.minibatch_index), context.minibatch_index\n    \
         assert context.partition_key_value is None\n    assert list(context.dataset) == mini_batch\n    \
         return [context.minibatch_index + ' ' + item for item in mini_batch]\n",
    );
    let rows = rows(&place);
    let mut indices: Vec<&str> = rows.iter().map(|row| row.split(' ').next().unwrap()).collect();
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), 3, "each mini-batch has its own: {rows:?}");
}

#[test]
fn a_second_parameter_with_a_default_is_given_the_context_and_stars_are_not() {
    for (parameters, expected) in [("mini_batch, context=None", "MiniBatchContext"), ("mini_batch, *rest, **more", "0")]
    {
        let place = job("score.py", "");
        let what = if expected == "0" { "str(len(rest) + len(more))" } else { "type(context).__name__" };
        place.write("source/score.py", format!("def run({parameters}):\n    return [{what} for item in mini_batch]\n"));
        assert_eq!(rows(&place), [expected; 6]);
    }
}

#[test]
fn a_mini_batch_is_a_list_of_str_and_files_are_absolute_paths() {
    let place = Place::new();
    for name in ["a b.txt", "c\nd.txt", "é.txt"] {
        place.write(format!("data/{name}"), "content");
    }
    place.write("score.py", "import os\ndef run(mini_batch):\n    assert type(mini_batch) is list\n    \
         assert all(type(path) is str and os.path.isabs(path) and open(path).read() == 'content' for path in mini_batch)\n    \
         return [ascii(os.path.basename(path)) for path in mini_batch]\n");
    place.write("job.yaml", "name: contract\nentry_script: score.py\ninputs: [data]\n");
    let expected = ["'a b.txt'", "'c\\nd.txt'", "'\\xe9.txt'"].map(str::to_string);
    assert_each_once(&rows(&place), &expected);
}

#[test]
fn the_snapshot_is_what_runs_whatever_becomes_of_the_source() {
    let place = job("score.py", "");
    place.write("source/score.py", "import os, time\ndef run(mini_batch):\n    \
         while not os.path.exists(os.environ['GO']):\n        time.sleep(0.01)\n    import late\n    return [late.WORD for item in mini_batch]\n");
    place.write("source/late.py", "WORD = 'as submitted'\n");
    let yaml = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", format!("{yaml}environment_variables: {{GO: '{}'}}\n", place.path("go").display()));
    let running = crate::running::Running::job(&place);
    crate::running::wait_for_state(&place, "Running");
    place.write("source/late.py", "WORD = 'changed'\n");
    place.write("go", "");
    running.ends(crate::support::LIMIT, 0);
    assert_eq!(place.rows(), ["as submitted"; 6]);
}
