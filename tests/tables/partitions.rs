//! One mini-batch for each combination of values that stand in the paths.

use crate::python;
use crate::support::{Place, assert_each_once};

/// Says for each mini-batch what it is of and what it has.
const TELLS: &str = "import os\n\ndef run(mini_batch, context):\n    key = ','.join(f'{k}={v}' for k, v in context.partition_key_value.items())\n    \
                     names = ' '.join(os.path.basename(path) for path in mini_batch)\n    return [f'{key}: {names}'] + [''] * (len(mini_batch) - 1)\n";

fn job(place: &Place, script: &str, more: &str) {
    place.write("score.py", script);
    place.write("job.yaml", format!("name: parts\nentry_script: score.py\n{more}\n"));
}

fn rows(place: &Place) -> Vec<String> {
    place.rows().into_iter().filter(|row| !row.is_empty()).collect()
}

#[test]
fn files_come_by_the_values_in_their_paths() {
    let place = Place::new();
    for path in ["ann/winter/1.wav", "ann/winter/2.wav", "ann/summer/3.wav", "bob/winter/4.wav", "bob/a b\n/5.wav"] {
        place.write(format!("data/{path}"), path);
    }
    job(&place, TELLS, "inputs: [data]\npartition_format: \"{user}/{season}/*.wav\"");
    let plan = place.run(&["plan", "job.yaml"]).expect(0).stdout;
    assert!(plan.starts_with("parts: 5 files in 4 mini-batches"), "{plan}");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let expected =
        ["user=ann,season=winter: 1.wav 2.wav", "user=ann,season=summer: 3.wav", "user=bob,season=winter: 4.wav"];
    let mut expected = expected.map(String::from).to_vec();
    expected.extend(["user=bob,season=a b".to_string(), ": 5.wav".to_string()]);
    assert_each_once(&rows(&place), &expected);
    assert_eq!(place.status()["counts"]["items_succeeded"], 5);

    let args = ["run", "job.yaml", "--job-dir", "job2", "--set", "partition_keys=[season]"];
    place.run(&args).expect(0);
    let text = std::fs::read_to_string(place.path("job2/output/parallel_run_step.txt")).unwrap();
    let rows: Vec<String> = text.lines().filter(|row| !row.is_empty()).map(String::from).collect();
    // In the order of their paths.
    let expected =
        ["season=winter: 1.wav 2.wav 4.wav", "season=summer: 3.wav", "season=a b", ": 5.wav"].map(String::from);
    assert_each_once(&rows, &expected);
}

#[test]
fn tables_come_with_a_column_for_each_value() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    for (path, text) in [
        ("2023/a.csv", "x\n1\n2\n"),
        ("2023/b.csv", "x\n3\n"),
        ("2024/a.csv", "x\n4\n"),
        ("2025/a.csv", "x\n"),
        ("2024/empty.csv", ""),
    ] {
        place.write(format!("data/year={path}"), text);
    }
    let script = "def run(mini_batch, context):\n    year = context.partition_key_value['year']\n    \
                  assert (mini_batch.year == year).all()\n    return [f'{year} {r.x} {r.part}' for r in mini_batch.itertuples()]\n";
    let more = format!(
        "inputs: [data]\ninput_type: csv\npartition_format: \"year={{year}}/{{part}}.csv\"\npartition_keys: [year]\nenvironment: {{python: {}}}",
        python().display()
    );
    job(&place, script, &more);
    let plan = place.run(&["plan", "job.yaml"]).expect(0).stdout;
    assert!(plan.starts_with("parts: 4 rows in 2 mini-batches"), "{plan}");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &["2023 1 a", "2023 2 a", "2023 3 b", "2024 4 a"].map(String::from));
}

#[test]
fn a_column_that_is_called_like_a_value_is_not_written_over() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/1999/a.csv", "year,x\n2024,1\n");
    let more = format!(
        "inputs: [data]\ninput_type: csv\npartition_format: \"{{year}}/*.csv\"\nenvironment: {{python: {}}}",
        python().display()
    );
    job(&place, "def run(mini_batch):\n    return mini_batch.x.tolist()\n", &more);
    for verb in [&["plan", "job.yaml"][..], &["run", "job.yaml", "--job-dir", "job"]] {
        let ran = place.run(verb).expect(2);
        let told = "a.csv`: it has a column `year`, which `partition_format` takes from its path\nhint: call it otherwise in `partition_format`";
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
    assert!(!place.job().exists());

    // Not in the first line, which is all that is looked at.
    place.write("data/1999/a.csv", "{\"x\": 1}\n{\"x\": 2, \"year\": 2024}\n");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "input_type=jsonl"]).expect(1);
    assert!(ran.stderr.contains("`year` is a column of the file and a name in `partition_format`"), "{}", ran.stderr);
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Place::new();
    place.write("data/ann/1.wav", "");
    place.write("data/2.mp3", "");
    let told = |more: &str| {
        job(&place, TELLS, more);
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
        ran.stderr.replace(place.path("").to_str().unwrap(), "/place/")
    };
    let cases = [
        "inputs: [data]\npartition_format: \"{user}/*.wav\"",
        "inputs: [data]\npartition_format: \"{user}/*.wav\"\nmini_batch_size: 5",
        "inputs: [data]\npartition_format: \"{user}/*.wav\"\npartition_keys: [usr]",
        "inputs: [data]\npartition_format: \"{day:yyyy/MM/dd}/*.wav\"",
        "inputs: [data]\npartition_keys: [user]",
        "inputs: [data]\nrank_mini_batch_count: 2\npartition_format: \"{user}/*.wav\"",
        "inputs: [data/ann/1.wav]\ninput_type: lines\npartition_format: \"{user}/*.wav\"",
    ];
    insta::assert_snapshot!(cases.map(told).join("\n"));
}
