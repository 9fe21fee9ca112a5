//! What `run()` may return, what is written of it, and what is counted.

use crate::support::{Place, Ran, assert_each_once};

/// Runs a job of 6 items in 3 mini-batches whose `run()` has this body.
fn run(body: &str, more: &str) -> (Place, Ran) {
    let place = Place::new();
    place.write_items(6);
    place.write("score.py", format!("def run(mini_batch):\n    {body}\n"));
    let yaml = format!(
        "name: contract\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 2\n\
         process_count_per_node: 2\n{more}"
    );
    place.write("job.yaml", yaml);
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]);
    (place, ran)
}

fn items() -> Vec<String> {
    (0..6).map(|i| format!("item-{i:03}")).collect()
}

#[test]
fn everything_that_has_elements_is_taken() {
    let bodies = [
        "return mini_batch",
        "return tuple(mini_batch)",
        "return iter(mini_batch)",
        "return (item for item in mini_batch)",
        "return map(str, mini_batch)",
        "return set(mini_batch)",
        "yield from mini_batch",
        "import collections; return collections.deque(mini_batch)",
    ];
    for body in bodies {
        let (place, ran) = run(body, "");
        assert_eq!(ran.code, Some(0), "{body}: {}", ran.stderr);
        assert_each_once(&place.rows(), &items());
        assert_eq!(place.status()["counts"]["items_succeeded"], 6, "{body}");
    }
}

#[test]
fn an_element_is_written_as_its_str() {
    let (place, ran) = run(
        "return [{'a': 1}, None] if 'item-000' in mini_batch else [(1, 'x'), 2.5] if 'item-002' in mini_batch else [b'raw', 'two words, \"quoted\"']",
        "",
    );
    ran.expect(0);
    let expected = ["{'a': 1}", "None", "(1, 'x')", "2.5", "b'raw'", "two words, \"quoted\""].map(str::to_string);
    assert_each_once(&place.rows(), &expected);
}

#[test]
fn what_is_no_list_of_results_names_what_came_back() {
    let bodies = [
        ("pass", "None"),
        ("return 'text'", "str"),
        ("return b'bytes'", "bytes"),
        ("return {item: 1 for item in mini_batch}", "dict"),
        ("return len(mini_batch)", "int"),
        ("return True", "bool"),
    ];
    for (body, name) in bodies {
        let (place, ran) = run(body, "run_max_try: 1\n");
        assert_eq!(ran.code, Some(1), "{body}: {}", ran.stderr);
        let errors = place.errors();
        assert_eq!(errors.len(), 3, "{body}");
        for error in errors {
            assert_eq!(error["kind"], "bad_return", "{body}");
            let message = error["message"].as_str().unwrap();
            assert!(
                message.contains(&format!("run() returned {name};")) && message.contains("expected a list"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_short_return_counts_what_is_missing_and_is_not_tried_again() {
    let (place, ran) = run("return mini_batch[:1]", "");
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert_each_once(&place.rows(), &["item-000", "item-002", "item-004"].map(str::to_string));
    let counts = &place.status()["counts"];
    assert_eq!((&counts["items_succeeded"], &counts["items_failed"]), (&3.into(), &3.into()));
    assert_eq!((&counts["attempts"], &counts["mini_batches_failed"]), (&3.into(), &0.into()));
    assert!(place.errors().iter().all(|error| error["kind"] == "short_return"));
}

#[test]
fn a_short_return_makes_a_failed_mini_batch_where_a_threshold_is_set() {
    let (_, ran) = run("return mini_batch[:1]", "error_threshold: 100\nallowed_failed_count: 2\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("3 failed mini-batches exceed allowed_failed_count 2"), "{}", ran.stderr);
    let (_, ran) = run("return mini_batch[:1]", "allowed_failed_count: 0\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn more_results_than_items_are_legal_and_told() {
    let (place, ran) = run("return mini_batch * 3", "");
    let ran = ran.expect(0);
    assert_eq!(place.rows().len(), 18);
    assert_eq!(place.status()["counts"]["surplus_results"], 12);
    assert_eq!(place.status()["counts"]["items_failed"], 0);
    assert!(ran.stderr.contains("surplus"), "{}", ran.stderr);
}

#[test]
fn an_empty_list_is_no_success_and_no_error() {
    let (place, ran) = run("return [] if 'item-000' in mini_batch else mini_batch", "");
    assert_eq!(ran.code, Some(5));
    assert_eq!(place.status()["counts"]["attempts_failed"], 0);
    let (_, ran) = run("return []", "");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no item succeeded"), "{}", ran.stderr);
}

#[test]
fn summary_only_counts_and_the_script_stores_its_own() {
    let script = "import os\n    for item in mini_batch:\n        open(os.path.join(os.environ['AZUREML_BI_OUTPUT_PATH'], item + '.out'), 'w').write(item)\n    return mini_batch";
    let (place, ran) = run(script, "output_action: summary_only\n");
    let ran = ran.expect(0);
    let names = std::fs::read_dir(place.job().join("output")).unwrap().flatten();
    let names: Vec<String> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_each_once(&names, &items().iter().map(|item| format!("{item}.out")).collect::<Vec<_>>());
    assert_eq!(place.status()["counts"]["items_succeeded"], 6);
    assert!(ran.stderr.contains("what the script stored under"), "{}", ran.stderr);
    // Nothing that succeeded is no failure where nothing is to be written.
    let (_, ran) = run("return []", "output_action: summary_only\n");
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
}

#[test]
fn iterating_a_generator_is_part_of_run() {
    let (place, ran) = run(
        "import time\n    for item in mini_batch:\n        time.sleep(100 if item == 'item-003' else 0)\n        yield item",
        "run_invocation_timeout: 1\nrun_max_try: 1\n",
    );
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert_each_once(&place.rows(), &["item-000", "item-001", "item-004", "item-005"].map(str::to_string));
    assert_eq!(place.errors()[0]["kind"], "timeout");
}
