//! Output as one Parquet file: what `run()` returned is in it once, with its types, whatever happened on the way.

use std::process::Command;

use crate::python;
use crate::support::Place;

/// A job over `input` with a Parquet file as output.
fn job(place: &Place, script: &str, input: &str, more: &str) {
    place.write("score.py", script);
    let python = python();
    let yaml = format!(
        "name: frames\nentry_script: score.py\ninputs: {input}\nenvironment: {{python: {}}}\nprocess_count_per_node: 1\n\
         append_row_file_name: out.parquet\n{more}",
        python.display()
    );
    place.write("job.yaml", yaml);
}

/// What a Python program that has read the output, as `frame`, prints.
#[track_caller]
fn asked(place: &Place, question: &str) -> String {
    let script =
        format!("import pandas, pyarrow.parquet\nframe = pandas.read_parquet('job/output/out.parquet')\n{question}");
    let ran = Command::new(python()).args(["-c", &script]).current_dir(place.path("")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim_end().to_string()
}

/// So many files `0` to `n - 1` in `data`.
fn files(place: &Place, n: usize) {
    for i in 0..n {
        place.write(format!("data/{i:04}"), "x");
    }
}

#[test]
fn a_frame_goes_in_and_comes_back_with_its_dtypes() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let rows: String = (0..400).map(|id| format!("{id},n{id},{}\n", id as f64 / 2.0)).collect();
    place.write("t.csv", format!("id,name,weight\n{rows}"));
    let script = "import pandas\n\ndef run(mini_batch):\n    return mini_batch.assign(kind=pandas.Categorical(['a'] * len(mini_batch)), \
                  when=pandas.Timestamp('2026-01-02', tz='UTC'), small=mini_batch.id.astype('Int16').where(mini_batch.id % 2 == 0), \
                  text=mini_batch.name.astype(object))\n";
    job(&place, script, "[t.csv]", "input_type: csv\nmini_batch_size: 10rows\nappend_row_dataframe_header: true\n");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(ran.stderr.contains("out.parquet (400 results"), "{}", ran.stderr);
    let said = asked(
        &place,
        "frame = frame.sort_values('id')\nassert (frame.weight == frame.id / 2).all()\nassert list(frame.name) == [f'n{i}' for i in range(400)]\n\
         assert frame.small.isna().sum() == 200 and (frame.small.dropna() % 2 == 0).all()\n\
         print(*frame.columns)\nprint(*frame.dtypes)",
    );
    assert_eq!(said, "id name weight kind when small text\nint64 str float64 str datetime64[us, UTC] Int16 str");
    assert!(!place.job().join("output/out.parquet.partial").exists());
    let file = place.job().join("output/out.parquet");
    let status = place.status();
    assert_eq!(status["output"]["bytes"], std::fs::metadata(&file).unwrap().len());
    assert_eq!(status["output"]["rows"], 400);
    place.run(&["doctor", "--verify", "job"]).expect(0);
    let again = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(again.stderr.contains("is Completed already"), "{}", again.stderr);
    place.run(&["results", "job", "--output", "copy.parquet"]).expect(0);
    assert_eq!(std::fs::read(place.path("copy.parquet")).unwrap(), std::fs::read(&file).unwrap());
}

#[test]
fn lists_have_a_column_called_result_and_rows_of_lists_their_own() {
    if !crate::has_pandas() {
        return;
    }
    for (returned, columns, first) in [
        ("[os.path.basename(name) for name in mini_batch]", "result:str", "('0000',)"),
        (
            "[{'name': os.path.basename(name), 'n': len(mini_batch)} for name in mini_batch]",
            "name:str n:int64",
            "('0000', 3)",
        ),
        (
            "[pandas.Series({'name': os.path.basename(name), 'x': 1.5}) for name in mini_batch]",
            "name:str x:float64",
            "('0000', 1.5)",
        ),
        ("(int(os.path.basename(name)) for name in mini_batch)", "result:int64", "(0,)"),
        (
            "numpy.array([[int(os.path.basename(name)), 1.5] for name in mini_batch])",
            "result:object",
            "(array([0. , 1.5]),)",
        ),
        ("[pathlib.Path(name).name.encode() + b'\\xff' for name in mini_batch]", "result:object", "(b'0000\\xff',)"),
    ] {
        let place = Place::new();
        files(&place, 12);
        let script = format!("import os, pathlib, numpy, pandas\n\ndef run(mini_batch):\n    return {returned}\n");
        job(&place, &script, "[data]", "mini_batch_size: 3\n");
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        let said = asked(
            &place,
            "rows = sorted(frame.itertuples(index=False, name=None), key=str)\nassert len(rows) == 12\n\
             print(*(f'{name}:{frame[name].dtype}' for name in frame.columns))\nprint(rows[0])",
        );
        assert_eq!(said, format!("{columns}\n{first}"), "{returned}");
    }
}

#[test]
fn what_a_parquet_file_cannot_hold_fails_its_mini_batch_and_says_why() {
    if !crate::has_pandas() {
        return;
    }
    for (returned, says) in [
        ("[1, 'a', 2]", "column `result` can't be one of a Parquet file: Could not convert 'a' with type str"),
        ("[pandas.DataFrame({'a': [1]})] * 3", "a list of pandas.DataFrame: for a Parquet file return a DataFrame"),
        ("pandas.DataFrame({'a': [1, 2, 'x']})", "`frame.astype({'a': str})`"),
        ("pandas.DataFrame([[1, 2]] * 3, columns=['a', 'a'])", "two columns called `a`"),
        ("pandas.DataFrame(index=[1, 2, 3])", "with 3 rows and 0 columns"),
        ("[object()] * 3", "Could not convert <object object> with type object"),
        ("'text'", "return it in a list: [result]"),
        (
            "pandas.DataFrame({'a': pandas.Series([['x']] * 3, dtype=pandas.ArrowDtype(pyarrow.list_(pyarrow.dictionary(pyarrow.int8(), \
             pyarrow.string()))))})",
            "column `a` as list of dictionary(int8, utf8), which a Parquet file can't hold",
        ),
    ] {
        let place = Place::new();
        files(&place, 3);
        let script = format!("import pandas, pyarrow\n\ndef run(mini_batch):\n    return {returned}\n");
        job(&place, &script, "[data]", "mini_batch_size: 3\nrun_max_try: 2\n");
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
        let error = &place.errors()[0];
        assert_eq!((error["kind"].as_str(), error["attempt"].as_u64()), (Some("bad_return"), Some(2)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{returned}: {error}");
        assert!(!place.job().join("output/out.parquet").exists());
    }
}

#[test]
fn other_columns_than_those_of_the_output_fail_a_mini_batch_and_not_the_job() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    files(&place, 20);
    // The first one decides; of two processes, the others wait for it.
    let script = "import os, time, pandas\n\ndef run(mini_batch):\n    i = int(os.path.basename(mini_batch[0]))\n    \
                  if i:\n        while not os.path.exists('../../../../../../first'):\n            time.sleep(0.01)\n    \
                  frame = pandas.DataFrame({'id': [i], 'score': [i + 0.5]})\n    \
                  if i == 0:\n        return frame\n    if i == 3:\n        frame = frame.astype({'score': str})\n    \
                  if i == 7:\n        frame = frame.rename(columns={'score': 'points'})\n    \
                  if i == 8:\n        frame = frame.iloc[:0]\n    if i == 9:\n        frame['score'] = None\n    \
                  if i == 10:\n        frame['score'] = 7\n    return frame[list(reversed(frame.columns))]\n";
    let script = script.replace("../../../../../../first", place.path("first").to_str().unwrap());
    job(&place, &script, "[data]", "mini_batch_size: 1\nrun_max_try: 2\n");
    let running = place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
    crate::support::wait_for("the first mini-batch to be in", || {
        let status = std::fs::read(place.job().join("status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&status).ok()?;
        (status["counts"]["mini_batches_succeeded"].as_u64()? > 0).then_some(())
    });
    place.write("first", "");
    let ran = crate::support::finish(running, crate::support::LIMIT).expect(5);
    assert!(ran.stderr.contains("bad_return"), "{}", ran.stderr);
    let said = asked(
        &place,
        "frame = frame.sort_values('id')\nprint(*frame.columns, *frame.dtypes)\nprint(*frame.id)\nprint(*frame[frame.id.isin([9, 10])].score)",
    );
    assert_eq!(said, "id score int64 float64\n0 1 2 4 5 6 9 10 11 12 13 14 15 16 17 18 19\nnan 7.0");
    let mut told: Vec<(u64, String)> = place
        .errors()
        .iter()
        .map(|error| (error["mini_batch"].as_u64().unwrap(), format!("{}: {}", error["kind"], error["message"])))
        .collect();
    told.sort();
    let (numbers, texts): (Vec<u64>, Vec<String>) = told.into_iter().unzip();
    assert_eq!(numbers, [3, 7, 8]);
    assert!(
        texts[0].contains("run() returned column `score` as text, and in the output it is float64"),
        "{}",
        texts[0]
    );
    assert!(texts[1].contains("`score` is missing and `points` is unknown"), "{}", texts[1]);
    assert!(texts[2].starts_with("\"short_return\""), "{}", texts[2]);
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn what_failed_is_added_later_and_the_result_is_used_again() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    files(&place, 12);
    let script = "import os\n\ndef run(mini_batch):\n    ids = [int(os.path.basename(name)) for name in mini_batch]\n    \
                  if 4 in ids and not os.path.exists('WELL'):\n        raise ValueError('not yet')\n    \
                  return [{'id': i, 'half': i / 2} for i in ids]\n";
    job(
        &place,
        &script.replace("WELL", place.path("well").to_str().unwrap()),
        "[data]",
        "mini_batch_size: 2\nrun_max_try: 1\n",
    );
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let whole = "print(*sorted(frame.id), *frame.dtypes)";
    assert_eq!(asked(&place, whole), "0 1 2 3 6 7 8 9 10 11 int64 float64");
    place.write("well", "");
    place.run(&["retry", "--failed", "job"]).expect(0);
    assert_eq!(asked(&place, whole), "0 1 2 3 4 5 6 7 8 9 10 11 int64 float64");
    let status = place.status();
    let file = place.job().join("output/out.parquet");
    assert_eq!(status["output"]["bytes"], std::fs::metadata(&file).unwrap().len());
    assert_eq!((&status["output"]["rows"], &status["state"]), (&12.into(), &"Completed".into()));
    place.run(&["doctor", "--verify", "job"]).expect(0);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);

    place.run(&["run", "job.yaml"]).expect(0);
    let again = place.run(&["run", "job.yaml"]).expect(0);
    assert!(again.stderr.contains("was the same job and is Completed: its result is used"), "{}", again.stderr);
}

#[test]
fn a_python_without_pyarrow_is_told_what_to_do() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    files(&place, 2);
    let more = format!("environment_variables: {{PYTHONPATH: {}}}\n", place.path("shadow").display());
    job(&place, "def run(mini_batch):\n    return mini_batch\n", "[data]", &more);
    place.write("shadow/pyarrow/__init__.py", "raise ImportError('there is no pyarrow here')\n");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    let says = ran.stderr.contains("pyarrow can't be imported by ") && ran.stderr.contains("requirements: [pyarrow]");
    assert!(says, "{}", ran.stderr);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_file_that_can_t_be_written_is_waited_for_and_the_job_may_be_stopped_meanwhile() {
    use nix::sys::signal::{Signal, kill};

    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    files(&place, 12);
    let script = "import os\n\ndef run(mini_batch):\n    return [os.path.basename(name) for name in mini_batch]\n";
    job(&place, script, "[data]", "mini_batch_size: 1\n");
    let blocked = |fault: &str| {
        let mut command = place.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]).env("FANFOLD_FAILPOINT", fault);
        let running = command.spawn().unwrap();
        crate::support::wait_for("the job to be held up", || {
            let status = std::fs::read(place.job().join("status.json")).ok()?;
            let status: serde_json::Value = serde_json::from_slice(&status).ok()?;
            let held_up = status["pid"] == running.id() && status["blocked"].as_str()?.contains("disk full");
            held_up.then(|| assert_eq!(status["state"], "Finalizing"))
        });
        running
    };
    // No room before the pass begins, and none in the middle of it.
    for (fault, code, state) in
        [("table_sync:1:28", 3, "Canceled"), ("table_room:1:28", 130, "Paused"), ("table_write:1:28", 0, "Paused")]
    {
        let running = blocked(fault);
        match code {
            130 => kill(nix::unistd::Pid::from_raw(running.id() as i32), Signal::SIGINT).unwrap(),
            0 => drop(place.run(&["pause", "job"])),
            _ => drop(place.run(&["cancel", "job"])),
        }
        crate::support::finish(running, crate::support::LIMIT).expect(code);
        assert_eq!(place.status()["state"], state);
        assert!(!place.job().join("output/out.parquet.partial.new").exists(), "{fault}");
        place.run(&["doctor", "--verify", "job"]).expect(0);
        if state == "Canceled" {
            std::fs::remove_dir_all(place.job()).unwrap();
        }
    }
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let said = asked(&place, "print(len(frame), len(set(frame.result)))");
    assert_eq!(said, "12 12");
}

/// Frames by chance, the same for the same seed: each mini-batch returns one, and `compare` reads the file they became.
const FRAMES: &str = r#"
import datetime
import decimal
import random

import numpy
import pandas

KINDS = ["int", "float", "number", "flag", "text", "category", "when", "zone", "span", "Int", "bytes", "date", "decimal", "list", "dict", "nothing"]
EXACT = ("int", "float", "number", "flag", "when", "zone", "span", "Int")


def columns(seed):
    chance = random.Random(seed)
    return [("{}-{} ü".format(kind, n), kind) for n, kind in enumerate(chance.choices(KINDS, k=chance.randint(1, 12)))]


def values(kind, rows, chance):
    whole = [chance.randint(-100, 100) for _ in range(rows)]
    if kind == "int":
        small = chance.choice(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
        return numpy.array([abs(n) if small.startswith("u") else n for n in whole], dtype=small)
    if kind == "float":
        return numpy.array([chance.choice([n / 3, float("nan"), float("inf")]) for n in whole], dtype=chance.choice(["float32", "float64"]))
    if kind == "number":
        edge = [chance.choice([n, 2**53, -(2**53)]) for n in whole]
        return pandas.Series(edge if chance.random() < 0.5 else [chance.choice([float(n), None]) for n in edge])
    if kind == "flag":
        return numpy.array(whole) > 0
    text = [chance.choice(["", "a b", 'quo"te', "line\nend", "ünï", "\x00", str(n)]) for n in whole]
    if kind == "text":
        return pandas.Series([chance.choice([word, None]) for word in text], dtype=chance.choice([object, "str"]))
    if kind == "category":
        return pandas.Categorical(text)
    days = pandas.to_datetime(["2026-01-01"] * rows).as_unit("us") + pandas.to_timedelta(whole, unit="s").as_unit("us")
    if kind == "when":
        return pandas.Series(days).where(numpy.array(whole) > -50)
    if kind == "zone":
        return days.tz_localize("Europe/Berlin")
    if kind == "span":
        return pandas.to_timedelta(whole, unit="s").as_unit("us")
    if kind == "Int":
        return pandas.array([chance.choice([n, None]) for n in whole], dtype="Int64")
    if kind == "bytes":
        return [bytes([n + 100]) * 3 for n in whole]
    if kind == "date":
        return [datetime.date(2026, 1, 1) + datetime.timedelta(n) for n in whole]
    if kind == "decimal":
        return [decimal.Decimal(n).scaleb(-chance.randint(0, 4)) for n in whole]
    if kind == "list":
        return [list(range(n % 4)) for n in whole]
    if kind == "dict":
        return [{"a": n, "b": [str(n)]} for n in whole]
    return [None] * rows


def frame(seed, i):
    chance = random.Random("{}-{}".format(seed, i))
    rows, made = chance.randint(1, 30), {}
    for name, kind in columns(seed):
        # A column may have no value in one mini-batch, of whatever type pandas then gives it.
        empty = kind not in ("int", "flag") and chance.random() < 0.1
        made[name] = [chance.choice([None, numpy.nan])] * rows if empty else values(kind, rows, chance)
    made["key"] = ["{:03}-{:03}".format(i, row) for row in range(rows)]
    names = list(made)
    chance.shuffle(names)
    return pandas.DataFrame(made)[names]


def run(mini_batch, context):
    return frame(SEED, int(context.minibatch_index))


def plain(value):
    if isinstance(value, numpy.ndarray) or isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return None if pandas.isna(value) else value


def compare(path):
    found = pandas.read_parquet(path).sort_values("key", ignore_index=True)
    frames = [frame(SEED, i) for i in range(COUNT)]
    assert sorted(found.columns) == sorted(frames[0].columns)
    assert list(found.columns) in [list(one.columns) for one in frames], "the order of one of them"
    whole = pandas.concat(frames).sort_values("key", ignore_index=True)
    for name, kind in columns(SEED) + [("key", "key")]:
        expected, got = [plain(v) for v in whole[name]], [plain(v) for v in found[name]]
        assert expected == got, (name, [pair for pair in zip(expected, got) if pair[0] != pair[1]][:3])
        if kind in EXACT and all(len(one[name].dropna()) for one in frames):
            assert found[name].dtype == whole[name].dtype, (name, found[name].dtype, whole[name].dtype)
    return len(found)
"#;

#[test]
fn frames_by_chance_come_back_equal() {
    if !crate::has_pandas() {
        return;
    }
    let first = crate::seed::asked().unwrap_or(1);
    for seed in first..first + 6 {
        let place = Place::new();
        job(&place, &format!("SEED, COUNT = {seed}, 25\n{FRAMES}"), "[]", "");
        let yaml = std::fs::read_to_string(place.path("job.yaml")).unwrap();
        place.write("job.yaml", yaml.replace("inputs: []\n", "rank_mini_batch_count: 25\n"));
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]);
        assert_eq!(ran.code, Some(0), "seed {seed}: {}", ran.stderr);
        asked(&place, "import score\nassert score.compare('job/output/out.parquet') == len(frame)");
        place.run(&["doctor", "--verify", "job"]).expect(0);
    }
}
