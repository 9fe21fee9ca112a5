//! Inputs that are missing, empty or no files.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{job_file, place, refused};
use crate::support::Place;

fn with_inputs(place: &Place, inputs: &str) {
    place.write("job.yaml", job_file(place, &[("inputs", inputs), ("input_type", "files")]));
}

#[test]
fn an_input_that_is_not_there_is_refused_with_what_is() {
    let place = place();
    place.write("images/a.png", "a");
    with_inputs(&place, "[imgaes]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: `inputs[0]`: there is no file, folder or registered dataset `imgaes`
      --> job.yaml:6:10
       |
     6 | inputs: [imgaes]
       |          ^^^^^^
    hint: did you mean `images`?
    "#);
    with_inputs(&place, "[images/b.png]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: `inputs[0]`: there is no `images/b.png`
      --> job.yaml:6:10
       |
     6 | inputs: [images/b.png]
       |          ^^^^^^^^^^^^
    hint: did you mean `images/a.png`?
    "#);
    with_inputs(&place, "[imgaes/*.png]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: input `input0`: `imgaes` does not exist
    hint: the folder `<place>` has no `imgaes`, but `images`
    "#);
    symlink("/no/such/folder", place.path("link")).unwrap();
    with_inputs(&place, "[link]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: `inputs[0]`: there is no file, folder or registered dataset `link`
      --> job.yaml:6:10
       |
     6 | inputs: [link]
       |          ^^^^
    hint: `link` is a link to `/no/such/folder`, which is not there
    "#);
}

#[test]
fn an_input_without_items_is_refused_with_what_was_looked_at() {
    let place = place();
    place.write("images/a.png", "a");
    with_inputs(&place, "[images/*.jpg]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: input `input0` is empty: `images/*.jpg` matches no file; the folder `images` holds 1 file, which does not match
    hint: for example `a.png` is there
    "#);
    with_inputs(&place, "[images/*.PNG]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: input `input0` is empty: `images/*.PNG` matches no file; the folder `images` holds 1 file, which does not match
    hint: upper and lower case differ: `a.png` is there
    "#);
    fs::create_dir(place.path("empty")).unwrap();
    with_inputs(&place, "[empty]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: input `input0` is empty: the folder `empty` is there, but holds no files
    hint: put files there, or give another path
    "#);
    with_inputs(&place, "[\"images/[z-a\"]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: input `input0`: `images/[z-a` is not a valid pattern
      cause: error parsing glob '[z-a': invalid range; 'z' > 'a'
    hint: `*`, `?`, `[a-z]`, `{a,b}` and `**/` have a meaning; to match one of them as it is, put it in brackets: `[[]`
    "#);
    place.write("items.txt", "\n  \n");
    place.write("job.yaml", job_file(&place, &[]));
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: input `input0` is empty: `items.txt` has only blank lines
    hint: a list file has one item on each line
    "#);
}

#[test]
fn an_input_that_is_no_file_is_refused() {
    let place = place();
    mkfifo(&place.path("pipe"), Mode::S_IRWXU).unwrap();
    with_inputs(&place, "[pipe]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: input `input0`: `pipe` is neither a file nor a folder
    hint: give a file, a folder or a pattern such as `data/**/*.png`
    "#);
    with_inputs(&place, "[/dev/null]");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: input `input0`: `/dev/null` is neither a file nor a folder
    hint: give a file, a folder or a pattern such as `data/**/*.png`
    "#);
}

#[test]
fn a_file_that_cannot_be_read_is_a_failed_item_with_its_reason() {
    let place = place();
    place.write("images/a.png", "a");
    place.write("images/b.png", "b");
    symlink("vanished.png", place.path("images/c.png")).unwrap();
    with_inputs(&place, "[images]");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "mini_batch_size=3"]).expect(5);
    assert!(
        ran.stderr.contains("  errors        input: ") && ran.stderr.contains(" (1 item lost)\n"),
        "{}",
        ran.stderr
    );
    let errors = place.errors();
    assert_eq!((errors.len(), &errors[0]["kind"]), (1, &"input".into()), "{errors:?}");
    assert_eq!(errors[0]["item"], place.path("images/c.png").to_str().unwrap());
    let path = place.path("images/c.png");
    assert_eq!(errors[0]["message"], format!("`{}`: is a link to nowhere", path.display()));
    assert_eq!(place.rows().len(), 2);
}
