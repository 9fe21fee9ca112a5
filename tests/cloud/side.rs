//! Side inputs and models are here before the first process.

use fanfold_test_servers::has_cloud_servers;

use crate::World;

#[test]
fn side_inputs_and_models_become_local_paths() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(3);
    world.bucket.put("labels/labels.txt", "cat dog");
    world.bucket.put("weights/a/1.bin", "one");
    world.bucket.put("weights/b/2.bin", "two");
    let more = "side_inputs: {labels: datastore://store/labels/labels.txt, weights: datastore://store/weights}\n\
                models: {net: datastore://store/weights/a/1.bin}\n\
                arguments: [--labels, '${side_inputs.labels}', --weights, '${side_inputs.weights}']\n";
    world.job("[datastore://store/in]", more);
    world.place.write(
        "score.py",
        "import argparse, os\nparser = argparse.ArgumentParser()\nparser.add_argument('--labels')\nparser.add_argument('--weights')\n\
         args, _ = parser.parse_known_args()\n\ndef init():\n    global text\n    text = ' '.join([os.path.basename(args.labels), open(args.labels).read(), \
         os.path.basename(args.weights), open(args.weights + '/a/1.bin').read(), open(args.weights + '/b/2.bin').read(), \
         open(os.environ['AZUREML_MODEL_DIR'] + '/1.bin').read()])\n\ndef run(mini_batch):\n    return [text] * len(mini_batch)\n",
    );
    world.run_job().expect(0);
    assert_eq!(world.place.rows(), vec!["labels.txt cat dog weights one two one"; 3]);
}

#[test]
fn a_side_input_that_is_not_there_fails_the_job_by_its_key() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(3);
    world.job("[datastore://store/in]", "side_inputs: {labels: datastore://store/label/labels.txt}\n");
    let ran = world.run_job();
    assert!(ran.code == Some(2) || ran.code == Some(1), "{:?} {}", ran.code, ran.stderr);
    assert!(
        ran.stderr.contains("datastore://store/label/labels.txt") && ran.stderr.contains("does not exist"),
        "{}",
        ran.stderr
    );
    world.job("[datastore://store/in]", "arguments: ['${inputs.input0}']\n");
    let ran = world.run_job().expect(2);
    assert!(ran.stderr.contains("has no path") && ran.stderr.contains("side_inputs"), "{}", ran.stderr);
}
