//! What a script finds around it: arguments, environment, directories, models, side inputs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::probe::{probing, run, seen};
use crate::support::{LIMIT, Place, assert_each_once, finish, lines};

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

fn work(place: &Place) -> std::path::PathBuf {
    place.job().join(".fanfold/nodes/0/work")
}

#[test]
fn the_arguments_are_those_of_the_driver_then_the_jobs_own() {
    let place = probing(
        "side_inputs: {labels: labels.txt}\narguments: [--names, '${inputs.names}', '--labels=${side_inputs.labels}', \
         '${output}/x', --flag, '', 'two words', '$HOME']\n",
    );
    place.write("labels.txt", "cat\n");
    let output = text(&place.job().join("output"));
    let expected = [
        &text(&work(&place).join("score.py")),
        "--scoring_module_name",
        "score.py",
        "--mini_batch_size",
        "1",
        "--error_threshold",
        "-1",
        "--output_action",
        "append_row",
        "--logging_level",
        "INFO",
        "--run_invocation_timeout",
        "60",
        "--run_max_try",
        "3",
        "--output",
        &output,
        "--process_count_per_node",
        "2",
        "--names",
        &text(&place.path("items.txt")),
        &format!("--labels={}", text(&place.path("labels.txt"))),
        &format!("{output}/x"),
        "--flag",
        "",
        "two words",
        "$HOME",
    ];
    assert_eq!(run(&place)["argv"], json!(expected));
    assert_eq!(seen(&place, "process001")["argv"], json!(expected));
}

#[test]
fn arguments_that_are_set_are_passed_on() {
    let place = probing(
        "allowed_failed_count: 7\nallowed_failed_percent: 12.5\nappend_row_file_name: rows.csv\nerror_threshold: 3\n\
         logging_level: DEBUG\nrun_invocation_timeout: 45\nrun_max_try: 5\n",
    );
    let argv: Vec<String> = serde_json::from_value(run(&place)["argv"].clone()).unwrap();
    let value = |name: &str| argv.iter().position(|argument| argument == name).map(|at| argv[at + 1].as_str());
    let expected = [
        ("--allowed_failed_count", "7"),
        ("--allowed_failed_percent", "12.5"),
        ("--append_row_file_name", "rows.csv"),
        ("--error_threshold", "3"),
        ("--logging_level", "DEBUG"),
        ("--run_invocation_timeout", "45"),
        ("--run_max_try", "5"),
    ];
    for (name, expected) in expected {
        assert_eq!(value(name), Some(expected), "{name} in {argv:?}");
    }
    assert_eq!(lines(&place.job().join("output/rows.csv")).len(), 4);
    assert_eq!(seen(&place, "process000")["level"], 10, "the level of EntryScript().logger is the job's");
}

#[test]
fn options_of_the_driver_among_the_arguments_are_honoured() {
    let place = probing(
        "arguments: [--process_count_per_node, '3', --profiling_module=cProfile, --error_threshold, '2', \
         --resource_monitor_interva, '20', --run_max_tries, '9', --own, value]\n",
    );
    let argv = run(&place)["argv"].clone();
    let argv: Vec<String> = serde_json::from_value(argv).unwrap();
    assert_eq!(seen(&place, "process002")["agent_name"], "process002", "three processes");
    let at = argv.iter().position(|argument| argument == "--error_threshold").unwrap();
    assert_eq!(argv[at + 1], "2");
    let profile = place.job().join("logs/sys/node/0/process000.profile");
    assert!(fs::metadata(&profile).is_ok_and(|file| file.len() > 0), "{}", profile.display());
    let job = fs::read_to_string(place.job().join("job.yaml")).unwrap();
    assert!(job.contains("error_threshold: 2"), "{job}");
    for untouched in ["resource_monitor_interval: 600", "run_max_try: 3"] {
        assert!(job.contains(untouched), "nothing is matched by a prefix:\n{job}");
    }
    for kept in ["--resource_monitor_interva", "--run_max_tries", "--own", "value"] {
        assert!(argv.iter().any(|argument| argument == kept), "{kept} in {argv:?}");
    }
}

#[test]
fn a_threshold_given_as_an_argument_fails_the_job() {
    let place = Place::new();
    place.write_items(4);
    place.write("score.py", "def run(mini_batch):\n    return []\n");
    place.write(
        "job.yaml",
        "name: probe\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\narguments: [--error_threshold, '0']\n",
    );
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(ran.stderr.contains("4 failed items exceed error_threshold 0"), "{}", ran.stderr);
}

#[test]
fn the_environment_is_the_jobs_and_holds_no_secret_of_ours() {
    let place = probing("");
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    let secrets = [
        ("FANFOLD_KEY", "canary-1"),
        ("FANFOLD_BROKER_URL", "rediss://:canary-2@redis:6379/0"),
        ("FANFOLD_TOKEN", "canary-3"),
        ("MY_OWN_BROKER_URL", "amqps://me:canary-4@broker/"),
        ("REDIS_PASSWORD", "canary-5"),
    ];
    command.envs(secrets).env("INHERITED", "yes").env("OWN", "not the job's");
    finish(command.spawn().unwrap(), LIMIT).expect(0);
    let env: BTreeMap<String, String> = serde_json::from_value(seen(&place, "process000")["env"].clone()).unwrap();
    let expected = [
        ("AZUREML_BI_OUTPUT_PATH", text(&place.job().join("output"))),
        ("AZ_BATCHAI_GPU_COUNT_FOUND", "0".to_string()),
        ("OWN", "mine".to_string()),
        ("INHERITED", "yes".to_string()),
    ];
    for (name, value) in &expected {
        assert_eq!(env.get(*name), Some(value), "{name}");
    }
    for absent in ["AZUREML_MODEL_DIR", "CUDA_VISIBLE_DEVICES"] {
        assert_eq!(env.get(absent), None, "{absent}");
    }
    // Not in the environment of the script, and not in any file of the job.
    let told = env.iter().find(|(_, value)| value.contains("canary"));
    assert_eq!(told, None);
    let mut folders = vec![place.job()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    let bytes = fs::read(entry.path()).unwrap();
                    let found = bytes.windows(6).any(|window| window == b"canary");
                    assert!(!found, "a secret is in {}", entry.path().display());
                }
            }
        }
    }
}

#[test]
fn the_working_directory_is_the_nodes_own_copy() {
    let place = probing("source_directory: source\n");
    fs::rename(place.path("score.py"), place.path("score-away.py")).unwrap();
    place.write("source/score.py", fs::read(place.path("score-away.py")).unwrap());
    place.write("source/data/labels.txt", "cat");
    let seen = run(&place);
    let work = work(&place);
    assert_eq!(seen["cwd"], text(&work));
    assert_eq!(seen["file"], text(&work.join("score.py")));
    assert_eq!(seen["working_dir"], text(&work));
    assert_eq!(seen["name"], "score", "it is no __main__");
    assert_eq!(fs::read(work.join("data/labels.txt")).unwrap(), b"cat");
    assert_eq!(seen["same"], true);
    assert_eq!(seen["stdin"], "");
    assert_eq!((&seen["agent_name"], &seen["node_id"]), (&json!("process000"), &json!("0")));
    assert_eq!(seen["output_dir"], text(&place.job().join("output")));
    assert_eq!(seen["log_dir"], text(&place.job().join("logs/user/entry_script_log/0")));
    assert_eq!(seen["path"][0], text(&work));
}

/// A script that returns what `expression` is for each item.
fn evaluating(expression: &str, more: &str) -> Place {
    let place = Place::new();
    place.write_items(2);
    let script = format!(
        "import os\nHERE = os.path.dirname(os.path.abspath(__file__))\ndef run(mini_batch):\n    return [{expression} for item in mini_batch]\n"
    );
    place.write("score.py", script);
    let yaml = format!("name: probe\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\n{more}");
    place.write("job.yaml", yaml);
    place
}

#[test]
fn one_model_lies_in_its_own_folder_and_several_beside_each_other() {
    let place = evaluating(
        "open('azureml-models/mnist/1/mnist.onnx').read() + ' ' + ','.join(os.listdir(os.environ['AZUREML_MODEL_DIR']))",
        "models: {mnist: mnist.onnx}\n",
    );
    place.write("mnist.onnx", "weights");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_eq!(place.rows(), ["weights mnist.onnx"; 2]);

    let place = evaluating(
        "open('azureml-models/bert/1/folder/vocabulary').read() + ' ' + ','.join(sorted(os.listdir(os.environ['AZUREML_MODEL_DIR'])))",
        "models: {mnist: mnist.onnx, bert: folder}\n",
    );
    place.write("mnist.onnx", "weights");
    place.write("folder/vocabulary", "words");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_eq!(place.rows(), ["words bert,mnist"; 2]);
}

#[test]
fn every_input_is_split_on_its_own() {
    let place = Place::new();
    for (folder, count) in [("cats", 5), ("dogs", 3)] {
        for i in 0..count {
            place.write(format!("{folder}/{folder}-{i}.txt"), "");
        }
    }
    let script = "import os\ndef run(mini_batch):\n    kinds = {os.path.basename(os.path.dirname(path)) for path in mini_batch}\n    \
                  return ['%s %d' % (' '.join(sorted(kinds)), len(mini_batch)) for _ in mini_batch]\n";
    place.write("score.py", script);
    place.write("job.yaml", "name: probe\nentry_script: score.py\ninputs: {a: cats, b: dogs}\nmini_batch_size: 4\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let expected = ["cats 4", "cats 4", "cats 4", "cats 4", "cats 1", "dogs 3", "dogs 3", "dogs 3"];
    assert_each_once(&place.rows(), &expected.map(str::to_string));
}

#[test]
fn what_amlignore_names_stays_at_home() {
    let place = evaluating("' '.join(sorted(os.listdir(HERE)))", "source_directory: .\n");
    place.write(".amlignore", "# big things\nweights/\n*.bin\n!kept.bin\nitems.txt\nstate\ncache\n");
    place.write(".gitignore", "helper.py\n");
    for file in ["weights/large", "a.bin", "kept.bin", "helper.py", "venv/pyvenv.cfg", "venv/lib/module.py"] {
        place.write(file, "");
    }
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let rows = place.rows();
    let names: Vec<&str> = rows[0].split(' ').collect();
    for there in ["score.py", "kept.bin", "helper.py"] {
        assert!(names.contains(&there), "{there} in {names:?}");
    }
    for absent in ["weights", "a.bin", "venv", "items.txt", "job"] {
        assert!(!names.contains(&absent), "{absent} in {names:?}");
    }
}

#[test]
fn by_default_there_is_a_process_for_each_core() {
    let place = evaluating("item", "mini_batch_size: 1\n");
    let cores = std::thread::available_parallelism().unwrap().get();
    place.write_items(cores);
    assert_eq!(processes(&place), cores);
}

#[test]
fn there_are_no_more_processes_than_mini_batches() {
    assert_eq!(processes(&evaluating("item", "process_count_per_node: 3\n")), 1);
}

/// How many processes there were in a run of the job.
fn processes(place: &Place) -> usize {
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let logs = fs::read_dir(place.job().join("logs/sys/node/0")).unwrap().flatten();
    let names = logs.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.len() == "process000.txt".len()).count()
}
