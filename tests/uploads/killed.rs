//! The program is killed between two steps of the upload.

use fanfold_test_servers::has_cloud_servers;

use crate::points::of_the_upload;
use crate::world::World;

fn every_point_may_kill_it(world: impl Fn() -> World) {
    let points = of_the_upload();
    assert!(points.len() >= 6, "{points:?}");
    for point in points {
        let world = world();
        let rows = world.wide_job(20);
        world.killed_at(&format!("{}:1", point.name));
        let runs = world.place.rows().len();
        assert_eq!(runs, 20, "{}: the file has its name before anything is uploaded", point.name);
        // Once more at the same point, wherever it stands by then; it may not get there any more.
        let mut command = world.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]).env("FANFOLD_FAILPOINT", format!("{}:1", point.name));
        let ran = crate::support::finish(command.spawn().unwrap(), crate::world::PATIENCE);
        assert!(matches!(ran.code, None | Some(0)), "{}: {}", point.name, ran.stderr);
        world.run_job().expect(0);
        world.is_whole(&rows);
        // Of these nobody knows the ids: the bucket's own rules remove them.
        let lost = if point.name == "upload_before_record" { 2 } else { 0 };
        assert_eq!(world.unfinished().len(), lost, "{}", point.name);
        world.run(&["doctor", "--verify", "job"]).expect(0);
    }
}

#[test]
fn s3_gets_every_output_whole_whenever_the_program_is_killed() {
    if has_cloud_servers() {
        every_point_may_kill_it(World::s3);
    }
}
