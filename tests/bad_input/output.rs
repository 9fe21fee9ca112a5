//! Outputs that hold what is not this job's.

use std::fs;

use super::{completed, job_file, paused, place, refused};

#[test]
fn the_result_of_another_job_is_not_written_over() {
    let place = place();
    completed(&place);
    let args = ["job.yaml", "--job-dir", "other", "--set", "output=job/output"];
    insta::assert_snapshot!(refused(&place, &args), @r#"
    error: output `job/output/parallel_run_step.txt` exists already and is not this job's
    hint: move it away, or set another `output` or `append_row_file_name`; nothing was overwritten
    "#);
}

#[test]
fn the_unfinished_result_of_another_job_is_not_written_over() {
    let place = place();
    paused(&place);
    let args = ["job.yaml", "--job-dir", "other", "--set", "output=job/output"];
    insta::assert_snapshot!(refused(&place, &args), @r#"
    error: output `job/output/parallel_run_step.txt.partial` exists already and is not this job's
    hint: move it away, or set another `output` or `append_row_file_name`; nothing was overwritten
    "#);
}

#[test]
fn a_foreign_file_or_folder_where_the_output_should_be_is_left_alone() {
    let place = place();
    place.write("job.yaml", job_file(&place, &[("output", "out")]));
    place.write("out/parallel_run_step.txt", "precious\n");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: output `out/parallel_run_step.txt` exists already and is not this job's
    hint: move it away, or set another `output` or `append_row_file_name`; nothing was overwritten
    "#);
    fs::remove_file(place.path("out/parallel_run_step.txt")).unwrap();
    place.write("out/parallel_run_step.txt.partial", "precious\n");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: output `out/parallel_run_step.txt.partial` exists already and is not this job's
    hint: move it away, or set another `output` or `append_row_file_name`; nothing was overwritten
    "#);
    fs::remove_file(place.path("out/parallel_run_step.txt.partial")).unwrap();
    fs::create_dir(place.path("out/parallel_run_step.txt")).unwrap();
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: output `out/parallel_run_step.txt` exists already and is not this job's
    hint: move it away, or set another `output` or `append_row_file_name`; nothing was overwritten
    "#);
    fs::remove_dir_all(place.path("out")).unwrap();
    place.write("out", "a file\n");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: `output` must be a folder, and this is a file
      --> job.yaml:8:9
       |
     8 | output: out
       |         ^^^
    hint: give the folder; the file's name in it is `append_row_file_name`
    "#);
}
