//! `docs/job-file.md` is what `fanfold job-file --markdown` writes.

use std::fs;

use crate::page;
use crate::support::Place;

#[test]
fn the_page_of_the_job_file_is_the_table_of_keys() {
    let made = Place::new().run(&["job-file", "--markdown"]).expect(0).stdout;
    let kept = fs::read_to_string(page("job-file.md")).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).position(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "docs/job-file.md is not what shared/src/job/keys.rs says (first other line: {}); make it again:\n    \
         cargo run -p fanfold --all-features --locked -- job-file --markdown > docs/job-file.md\n",
        differs.map_or_else(|| made.lines().count().min(kept.lines().count()) + 1, |line| line + 1),
    );
}
