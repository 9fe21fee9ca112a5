//! `ordered: true` with a Parquet file: its rows are in the order of the input, whatever takes long, fails or is tried again.

use std::process::Command;

use crate::python;
use crate::support::Place;

/// Later rows are faster, some become two, and some fail until they are mended. What comes later has a wider type.
const SCRIPT: &str = r#"
import os, time
import pandas

def run(mini_batch):
    first = int(mini_batch.id.iloc[0])
    time.sleep(0.03 if first % 3 == 0 else 0)
    mended = os.path.exists("MENDED")
    if not mended and mini_batch.id.isin([17, 142]).any():
        raise ValueError("bad row")
    frame = mini_batch.assign(size=pandas.Series([1] * len(mini_batch), dtype="int64" if mended else "int8", index=mini_batch.index))
    return pandas.concat([frame, frame[frame.id % 5 == 0]]).sort_values("id")
"#;

/// What the output has in the column `id`, as it has it.
#[track_caller]
fn ids(place: &Place) -> Vec<usize> {
    let script =
        "import pyarrow.parquet\nprint(*pyarrow.parquet.read_table('job/output/out.parquet')['id'].to_pylist())";
    let ran = Command::new(python()).args(["-c", script]).current_dir(place.path("")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().split_whitespace().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn rows_come_in_the_order_of_the_input_and_those_tried_again_in_their_place() {
    if !crate::has_pandas() {
        return;
    }
    // Two files of 100 rows, in mini-batches of 7 rows of one file.
    let mini_batch = |id: usize| id / 100 * 100 + id % 100 / 7 * 7;
    for bisects in [false, true] {
        let place = Place::new();
        for (name, ids) in [("data/1.csv", 0..100), ("data/2.csv", 100..200)] {
            place.write(name, format!("id\n{}", ids.map(|id| format!("{id}\n")).collect::<String>()));
        }
        place.write("score.py", SCRIPT.replace("MENDED", place.path("mended").to_str().unwrap()));
        let yaml = format!(
            "name: ordered\nentry_script: score.py\ninputs: [data]\ninput_type: csv\nmini_batch_size: 7rows\nenvironment: {{python: {}}}\n\
             process_count_per_node: 2\nrun_max_try: 1\nordered: true\nappend_row_file_name: out.parquet\n{}",
            python().display(),
            if bisects { "on_failure: bisect\n" } else { "" },
        );
        place.write("job.yaml", yaml);
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
        let bad = |id: &usize| match bisects {
            true => [17, 142].contains(id),
            false => [17, 142].map(mini_batch).contains(&mini_batch(*id)),
        };
        let rows = |id: usize| std::iter::repeat_n(id, if id.is_multiple_of(5) { 2 } else { 1 });
        assert_eq!(ids(&place), (0..200).filter(|id| !bad(id)).flat_map(rows).collect::<Vec<_>>());
        place.run(&["doctor", "--verify", "job"]).expect(0);

        place.write("mended", "");
        place.run(&["retry", "--failed", "job"]).expect(0);
        assert_eq!(ids(&place), (0..200).flat_map(rows).collect::<Vec<_>>());
        assert_eq!(place.status()["output"]["rows"], 240);
        place.run(&["doctor", "--verify", "job"]).expect(0);
        // It is the same job as long as the order is.
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        let other = place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "ordered=false"]).expect(2);
        assert!(other.stderr.contains("ordered was true, is false"), "{}", other.stderr);
    }
}
