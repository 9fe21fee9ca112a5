//! `append_row_key`: the key of its item before each row.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use support::Place;

fn job(place: &Place, returned: &str, more: &str) {
    place.write("score.py", format!("import os\n\ndef run(mini_batch):\n    return {returned}\n"));
    place.write(
        "job.yaml",
        format!("name: keyed\nentry_script: score.py\nappend_row_key: true\nprocess_count_per_node: 2\nmini_batch_size: 7\n{more}"),
    );
}

#[test]
fn each_row_begins_with_the_path_of_its_file() {
    let place = Place::new();
    let names = ["plain", "a b", "tab\there", "line\nhere", "quote\"s", "é"];
    for at in 0..40 {
        place.write(format!("in/{at:02} {}", names[at % names.len()]), "");
    }
    fs::write(place.path("in").join(OsStr::from_bytes(b"\xff")), "").unwrap();
    job(&place, "[len(os.path.basename(path)) for path in mini_batch]", "inputs: [in]\nordered: true\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let mut names: Vec<Vec<u8>> =
        fs::read_dir(place.path("in")).unwrap().map(|entry| entry.unwrap().file_name().into_encoded_bytes()).collect();
    names.sort();
    assert_eq!(names.len(), 41);
    let mut expected = Vec::new();
    for name in names {
        let characters = String::from_utf8_lossy(&name).chars().count();
        let path = [place.path("in").as_os_str().as_bytes(), b"/", &name].concat();
        // As a reader of tab-separated values has it.
        match name.iter().any(|byte| b"\t\n\"".contains(byte)) {
            true => expected.extend(
                [
                    b"\"",
                    &path
                        .iter()
                        .flat_map(|byte| if *byte == b'"' { vec![b'"', b'"'] } else { vec![*byte] })
                        .collect::<Vec<_>>()[..],
                    b"\"",
                ]
                .concat(),
            ),
            false => expected.extend(path),
        }
        expected.extend(format!("\t{characters}\n").into_bytes());
    }
    let text = fs::read(place.job().join("output/parallel_run_step.txt")).unwrap();
    assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&expected));
    assert_eq!(text, expected);
}

#[test]
fn lines_are_their_own_keys_and_a_bad_item_is_missing() {
    let place = Place::new();
    let items = place.write_items(100);
    job(
        &place,
        "[item.upper() if item != 'item-042' else 1 / 0 for item in mini_batch]",
        "inputs: [items.txt]\ninput_type: lines\non_failure: bisect\nrun_max_try: 1\nordered: true\n",
    );
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let expected: Vec<String> = items
        .iter()
        .filter(|item| *item != "item-042")
        .map(|item| format!("{item}\t{}", item.to_uppercase()))
        .collect();
    assert_eq!(place.rows(), expected);
}

#[test]
fn a_file_that_is_gone_leaves_the_others_their_keys() {
    let place = Place::new();
    for at in 0..20 {
        place.write(format!("in/{at:02}"), "");
    }
    fs::remove_file(place.path("in/15")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.path("in/15")).unwrap();
    job(&place, "[path[-2:] for path in mini_batch]", "inputs: [in]\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let rows: BTreeSet<String> = place.rows().into_iter().collect();
    let expected = (0..20).filter(|at| *at != 15);
    assert_eq!(rows, expected.map(|at| format!("{0}/{at:02}\t{at:02}", place.path("in").display())).collect());
}

#[test]
fn a_result_that_does_not_say_which_items_it_is_of_is_refused() {
    let place = Place::new();
    place.write_items(14);
    for (returned, said) in [
        (
            "mini_batch[1:]",
            "run() returned a list with 6 elements for 7 items; `append_row_key` needs one for each item",
        ),
        ("(item for item in mini_batch * 3)", "run() returned a generator with 21 elements for 7 items"),
        ("(item for item in mini_batch[:1])", "run() returned a generator with 1 element for 7 items"),
    ] {
        let _ = fs::remove_dir_all(place.job());
        job(&place, returned, "inputs: [items.txt]\ninput_type: lines\nrun_max_try: 1\n");
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    // No rows have no keys.
    let _ = fs::remove_dir_all(place.job());
    job(&place, "[] if '003' in mini_batch[3] else mini_batch", "inputs: [items.txt]\ninput_type: lines\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_eq!(place.rows().len(), 7);
}

#[test]
fn what_has_no_keys_is_refused_before_it_runs() {
    let place = Place::new();
    place.write_items(3);
    for (more, said) in [
        (
            "inputs: [items.txt]\ninput_type: lines\noutput_action: summary_only\n",
            "`output_action: summary_only` has none",
        ),
        ("rank_mini_batch_count: 3\n", "with `rank_mini_batch_count` there are no items"),
    ] {
        job(&place, "mini_batch", more);
        let yaml = fs::read_to_string(place.path("job.yaml")).unwrap().replace("mini_batch_size: 7\n", "");
        place.write("job.yaml", yaml);
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}
