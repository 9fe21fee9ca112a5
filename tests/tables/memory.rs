//! What a process does with its memory between two frames.

use crate::jobs::{job, python_makes};
use crate::support::Place;

/// Says how many pages the process had touched for the first time when a mini-batch came.
const FAULTS: &str = "import resource\n\ndef run(mini_batch):\n    return [resource.getrusage(resource.RUSAGE_SELF).ru_minflt] * len(mini_batch)\n";

/// Pages that a mini-batch touched for the first time, on average, once the first ones are read.
fn pages_for_each(more: &str) -> u64 {
    let place = Place::new();
    python_makes(
        &place,
        "block = ''.join(f'{i},{i / 7},name {i}\\n' for i in range(100_000))\n\
         open('t.csv', 'w').write('id,x,name\\n' + 12 * block)\n",
    );
    job(&place, FAULTS, "[t.csv]", &format!("input_type: csv\nmini_batch_size: 100000rows\n{more}"));
    let one = ["run", "job.yaml", "--job-dir", "job", "--set", "process_count_per_node=1"];
    place.run(&one).expect(0);
    // One process reads all of them, one after the other.
    let faults: Vec<u64> = place.rows().iter().step_by(100_000).map(|row| row.parse().unwrap()).collect();
    assert_eq!(faults.len(), 12);
    (faults[11] - faults[5]) / 6
}

#[test]
#[cfg(target_env = "gnu")]
fn memory_of_one_frame_is_kept_for_the_next() {
    if !crate::has_pandas() {
        return;
    }
    let (kept, given_back) =
        (pages_for_each(""), pages_for_each("environment_variables: {MALLOC_TRIM_THRESHOLD_: '131072'}\n"));
    assert!(kept * 4 < given_back, "{kept} pages for each mini-batch, and {given_back} where the job says otherwise");
}
