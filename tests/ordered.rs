//! `ordered: true`: rows in the order of the input, whatever takes long, fails or is tried again.

#[path = "support/mod.rs"]
mod support;

use support::Place;

/// Later items are faster; some fail until they are mended.
const SCRIPT: &str = r#"
import os, time

def run(mini_batch):
    first = int(mini_batch[0].rpartition("-")[2])
    time.sleep(0.03 if first % 3 == 0 else 0)
    bad = not os.path.exists("MENDED") and {"item-017", "item-042"} & set(mini_batch)
    if bad:
        raise ValueError("bad item")
    return mini_batch
"#;

fn job(place: &Place, more: &str) {
    place.write("score.py", SCRIPT.replace("MENDED", place.path("mended").to_str().unwrap()));
    let yaml = format!(
        "name: ordered\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 3\nprocess_count_per_node: 2\nrun_max_try: 1\n\
         ordered: true\n{more}"
    );
    place.write("job.yaml", yaml);
}

#[test]
fn rows_come_in_the_order_of_the_input_and_those_tried_again_in_their_place() {
    for (more, missing) in [("", vec![15, 16, 17, 42, 43, 44]), ("on_failure: bisect\n", vec![17, 42])] {
        let place = Place::new();
        let items = place.write_items(200);
        job(&place, more);
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
        let good: Vec<String> =
            (0..200).filter(|number| !missing.contains(number)).map(|number| items[number].clone()).collect();
        assert_eq!(place.rows(), good);
        place.run(&["doctor", "--verify", "job"]).expect(0);
        place.write("mended", "");
        place.run(&["retry", "--failed", "job"]).expect(0);
        assert_eq!(place.rows(), items);
        place.run(&["doctor", "--verify", "job"]).expect(0);
        // It is the same job as long as the order is.
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        let other = place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "ordered=false"]).expect(2);
        assert!(other.stderr.contains("ordered was true, is false"), "{}", other.stderr);
    }
}

#[test]
fn what_has_no_rows_to_order_is_refused() {
    let place = Place::new();
    place.write_items(3);
    job(&place, "output_action: summary_only\n");
    let told = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2).stderr;
    assert!(told.contains("`output_action: summary_only` has none") && told.contains("hint:"), "{told}");
}
