//! Registered datasets of a service.

use serde_json::json;

use crate::world::Served;

#[test]
fn a_service_keeps_datasets_and_its_jobs_run_over_them() {
    let served = Served::new();
    let place = served.place();
    place.write("data/iris/a.csv", "x\n1\n");
    place.write("data/iris/b.csv", "x\n2\n");
    let text = "import os\n\ndef run(mini_batch):\n    return sorted(os.path.basename(path) for path in mini_batch)\n";
    place.write("names.py", text);
    place.write("names.yaml", "name: names\nentry_script: names.py\ninputs: [iris]\n");

    let refused = served.verb(&["submit", "names.yaml"]).expect(2);
    assert!(refused.stderr.contains("there is no file, folder or registered dataset `iris`"), "{}", refused.stderr);
    let registered = served.verb(&["dataset", "register", "iris", "--path", "data/iris"]).expect(0);
    assert_eq!(
        (registered.stdout.as_str(), registered.stderr.as_str()),
        ("iris:1\n", "iris:1 is registered: 2 files, 8 B\n")
    );
    let again = served.verb(&["dataset", "register", "iris", "--path", "data/iris"]).expect(0);
    assert!(again.stderr.contains("is just this already"), "{}", again.stderr);
    assert!(served.verb(&["dataset", "list"]).expect(0).stdout.contains("\niris:1 "));
    assert!(place.run(&["dataset", "list"]).expect(0).stdout.starts_with("No datasets."), "the user has none");

    let request = json!({"name": "iris", "paths": ["data/iris/a.csv"], "input_type": "csv"});
    let (status, answer) = served.post("/v1/datasets", None, &request.to_string());
    assert_eq!((status, &answer["error"]["code"]), (409, &"dataset_exists".into()), "{answer}");
    let mut request = request;
    request["new_version"] = true.into();
    request["read_csv"] = json!({"sep": ";"});
    let (status, answer) = served.post("/v1/datasets", None, &request.to_string());
    assert_eq!((status, &answer["dataset"]["version"], &answer["known"]), (201, &2.into(), &false.into()), "{answer}");
    assert_eq!(answer["dataset"]["paths"][0]["path"], place.path("data/iris/a.csv").to_str().unwrap());
    let (status, answer) = served.get("/v1/datasets/iris?version=1");
    assert_eq!(
        (status, &answer["dataset"]["version"], &answer["versions"]),
        (200, &1.into(), &json!([1, 2])),
        "{answer}"
    );
    let listed = served.verb(&["dataset", "list", "iris"]).expect(0).stdout;
    let first: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(first, ["DATASET", "iris:1", "iris:2"], "{listed}");
    let refused =
        served.verb(&["dataset", "register", "t", "--path", "data/iris", "--input-type", "parquet"]).expect(2);
    assert!(refused.stderr.contains("it is no Parquet file: it looks like text"), "{}", refused.stderr);
    let (status, answer) = served.get("/v1/datasets");
    assert_eq!((status, &answer["datasets"][0]["read_csv"]["sep"]), (200, &";".into()), "{answer}");
    for (path, code) in
        [("/v1/datasets/irsi", "dataset_not_found"), ("/v1/datasets/iris?version=9", "dataset_version_not_found")]
    {
        let (status, answer) = served.get(path);
        assert_eq!((status, &answer["error"]["code"]), (404, &code.into()), "{answer}");
    }
    for path in ["../outside", "/etc/passwd", "/proc/self/*"] {
        let (status, answer) = served.post("/v1/datasets", None, &json!({"name": "x", "paths": [path]}).to_string());
        assert_eq!((status, &answer["error"]["code"]), (400, &"outside_shared_directory".into()), "{answer}");
    }

    let _worker = served.world.worker();
    let ran = served.verb(&["submit", "names.yaml", "--set", "inputs=iris:1", "--wait"]).expect(0);
    let id = ran.stdout.trim();
    assert_eq!(served.rows(id), ["a.csv", "b.csv"]);
    let status = served.verb(&["status", id]).expect(0).stdout;
    assert!(status.contains("\ndatasets  iris:1 as input0\n"), "{status}");
    let keys = json!({"name": "names", "entry_script": "names.py", "inputs": {"all": "iris@latest"}});
    let (status, answer) = served.post("/v1/jobs", None, &json!({"job": keys}).to_string());
    assert_eq!(status, 201, "{answer}");
    let (_, answer) = served.get(&format!("/v1/jobs/{}", answer["job_id"].as_str().unwrap()));
    assert_eq!(answer["datasets"], json!({"all": "iris:2"}), "{answer}");
}
