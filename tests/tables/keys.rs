//! `append_row_key` over tables: each row has the file and the row that it was made of, however these came to the script.

use std::collections::BTreeSet;
use std::fs;

use crate::jobs::{job, python_makes};
use crate::support::Place;

/// Two files whose rows say where they are: `<file>,<row>`, the latter counted from 1.
fn tables(place: &Place) -> BTreeSet<(String, String)> {
    let mut expected = BTreeSet::new();
    for (name, rows) in [("a", 60), ("b c", 7)] {
        let text: String = (1..=rows).map(|row| format!("{name},{row},{}\n", ["x", "y", "z"][row % 3])).collect();
        let path = place.write(format!("in/{name}.csv"), format!("file,row,kind\n{text}"));
        expected.extend((1..=rows).map(|row| (path.display().to_string(), row.to_string())));
    }
    expected
}

/// `run()` returns its rows; `expr` makes a frame of `frame`.
fn script(expr: &str) -> String {
    format!("import pandas\n\ndef run(frame):\n    return {expr}\n")
}

/// The output's rows, `input_file`, `input_row` and what the row says of itself, which must be the same; and how many keys.
fn keys(place: &Place) -> BTreeSet<(String, String)> {
    let mut keys = BTreeSet::new();
    for row in place.rows() {
        let fields: Vec<&str> = row.split('\t').collect();
        let [file, number, stem, own, ..] = fields[..] else { panic!("{row}") };
        let name = std::path::Path::new(file).file_stem().unwrap().to_str().unwrap();
        assert_eq!((name, number), (stem, own), "{row}");
        assert!(keys.insert((file.to_string(), number.to_string())), "twice: {row}");
    }
    keys
}

const SETTINGS: &str = r#"{"append_row": {"pandas.DataFrame.to_csv": {"sep": "\t"}}}"#;

#[test]
fn rows_of_frames_and_of_lists_have_their_file_and_row() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let expected = tables(&place);
    place.write("parallel_run_step.settings.json", SETTINGS);
    // Each mini-batch is returned in another way.
    let ways = "
import pandas

def run(frame, context):
    texts = [f'{row.file}\\t{row.row}' for row in frame.itertuples()]
    way = int(context.minibatch_index) % 10
    if way == 0: return frame
    if way == 1: return frame.sort_values('row', ascending=False)
    if way == 2: return frame.reset_index(drop=True)
    # In order, whatever their index.
    if way == 3: return pandas.concat([frame.iloc[[at]].reset_index(drop=True) for at in range(len(frame))])
    if way == 4: return frame.set_index(frame.row + 1000)
    if way == 5: return frame.set_index('row', drop=False)
    if way == 6: return texts
    if way == 7: return (text for text in texts)
    if way == 8: return pandas.Series(texts).sample(frac=1, random_state=1)
    return pandas.Series(texts).to_numpy()
";
    job(&place, ways, "[in]", "input_type: csv\nmini_batch_size: 3rows\nappend_row_key: true\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_eq!(keys(&place), expected);
    assert!(place.status()["counts"]["mini_batches"].as_u64().unwrap() > 20, "each way more than once");
}

#[test]
fn a_frame_with_fewer_rows_says_by_its_index_which() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let expected: BTreeSet<_> =
        tables(&place).into_iter().filter(|(_, row)| row.parse::<u32>().unwrap() % 3 == 1).collect();
    place.write("parallel_run_step.settings.json", SETTINGS);
    let more = "input_type: csv\nmini_batch_size: 8rows\nappend_row_key: true\nrun_max_try: 1\n";
    job(&place, &script("frame[frame.kind == 'y']"), "[in]", more);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_eq!(keys(&place), expected);
    // Without it nobody knows.
    for (expr, why) in [
        ("frame[frame.kind == 'y'].reset_index(drop=True)", "leave out reset_index()"),
        ("list(frame[frame.kind == 'y'].row)", "one for each item, in their order"),
        ("pandas.concat([frame, frame])", "its index has labels twice"),
        ("frame.rename(columns={'row': 'input_row'})", "with a column `input_row`"),
    ] {
        let _ = fs::remove_dir_all(place.job());
        job(&place, &script(expr), "[in]", more);
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
        assert!(ran.stderr.contains(why), "{expr}\n{}", ran.stderr);
    }
}

#[test]
fn rows_that_were_gathered_have_their_own_file_and_row() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let expected = tables(&place);
    place.write("parallel_run_step.settings.json", SETTINGS);
    job(&place, &script("frame"), "[in]", "input_type: csv\npartition_keys: [kind]\nappend_row_key: true\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_eq!(keys(&place), expected);
    // Several files in one mini-batch, whole.
    let _ = fs::remove_dir_all(place.job());
    let more = "input_type: csv\npartition_format: '{folder}/*.csv'\npartition_keys: [folder]\nappend_row_key: true\n";
    job(&place, &script("frame.drop(columns='folder', errors='ignore')"), "[in]", more);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_eq!(keys(&place), expected);
    assert_eq!(place.status()["counts"]["mini_batches"], 1);
    // Of Parquet the worker takes them out of their files itself.
    python_makes(
        &place,
        "import glob, pandas\nfor name in glob.glob('in/*.csv'):\n    pandas.read_csv(name).to_parquet(name[:-3] + 'parquet', row_group_size=9)\n",
    );
    let of_parquet: BTreeSet<_> =
        expected.iter().map(|(file, row)| (file.replace(".csv", ".parquet"), row.clone())).collect();
    for more in ["partition_keys: [kind]\n", "mini_batch_size: 1KB\n"] {
        let _ = fs::remove_dir_all(place.job());
        job(&place, &script("frame"), "[in/*.parquet]", &format!("input_type: parquet\nappend_row_key: true\n{more}"));
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        assert_eq!(keys(&place), of_parquet, "{more}");
    }
}

#[test]
fn bisected_rows_keep_their_keys_and_a_parquet_file_has_them_as_columns() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let mut expected = tables(&place);
    let a = place.path("in/a.csv").display().to_string();
    for row in ["13", "14", "44"] {
        assert!(expected.remove(&(a.clone(), row.to_string())));
    }
    let raising = "import pandas\n\ndef run(frame):\n    if ((frame.file == 'a') & frame.row.isin([13, 14, 44])).any():\n        raise ValueError('bad row')\n    return";
    for (returned, name) in
        [("frame", "out.txt"), ("frame", "out.parquet"), ("frame.to_dict('records')", "out.parquet")]
    {
        let _ = fs::remove_dir_all(place.job());
        place.write("parallel_run_step.settings.json", SETTINGS);
        let more = format!(
            "input_type: csv\nmini_batch_size: 20rows\nappend_row_key: true\non_failure: bisect\nrun_max_try: 1\nappend_row_file_name: {name}\n"
        );
        job(&place, &format!("{raising} {returned}\n"), "[in]", &more);
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
        let items: BTreeSet<String> =
            place.errors().iter().map(|error| error["item"].as_str().unwrap().to_string()).collect();
        assert_eq!(
            items,
            ["13", "14", "44"].map(|row| format!("{a}, row {row}")).into(),
            "the same names as in the rows"
        );
        if name.ends_with(".parquet") {
            python_makes(
                &place,
                "import pandas\nframe = pandas.read_parquet('job/output/out.parquet')\nassert list(frame.columns)[:2] == ['input_file', 'input_row'], frame\n\
                 assert frame.input_row.dtype == 'int64'\nframe.to_csv('job/output/parallel_run_step.txt', index=False, header=False, sep='\\t')\n",
            );
        } else {
            fs::rename(place.job().join("output/out.txt"), place.job().join("output/parallel_run_step.txt")).unwrap();
        }
        assert_eq!(keys(&place), expected, "{returned} {name}");
    }
}
