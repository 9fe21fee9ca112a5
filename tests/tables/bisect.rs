//! `on_failure: bisect` over tables: a row that is in the way, of the script or of pandas, costs that row.

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::jobs::job;
use crate::support::{Place, assert_each_once, wait_for};

/// Says which rows it got; one that is called `raise` it can't bear.
const SCRIPT: &str = "def run(mini_batch):
    assert list(mini_batch.index) == list(range(len(mini_batch)))
    if (mini_batch.name == 'raise').any():
        raise ValueError('bad row')
    return [str(row) for row in mini_batch.id]
";

/// The rows that came, and for each error its row and its kind.
fn ran(place: &Place, input: &str, more: &str) -> (Vec<String>, BTreeSet<(u64, String)>) {
    let common = "on_failure: bisect\nrun_max_try: 1\n";
    job(place, SCRIPT, &format!("[{input}]"), &format!("{common}{more}"));
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    place.run(&["doctor", "--verify", "job"]).expect(0);
    let errors = place.errors();
    let told = errors.iter().map(|error| {
        assert_eq!(error["item_count"], 1, "{error}");
        let (_, row) = error["item"].as_str().unwrap().rsplit_once(", row ").unwrap();
        (row.parse().unwrap(), error["kind"].as_str().unwrap().to_string())
    });
    (place.rows(), told.collect())
}

fn expected(count: usize, bad: &[usize]) -> Vec<String> {
    (0..count).filter(|row| !bad.contains(row)).map(|row| row.to_string()).collect()
}

fn told(bad: &[(u64, &str)]) -> BTreeSet<(u64, String)> {
    bad.iter().map(|(row, kind)| (*row, kind.to_string())).collect()
}

/// Rows of an id and a name, some of them others.
fn csv(odd: &[(usize, &[u8])]) -> Vec<u8> {
    let row = |row: usize| match odd.iter().find(|(at, _)| *at == row) {
        Some((_, bytes)) => bytes.to_vec(),
        None if row % 7 == 3 => format!("{row},\"two\r\nlines, and \"\"quotes\"\"\"\r\n\r\n").into_bytes(),
        None => format!("{row},a\"b\r\n").into_bytes(),
    };
    [b"id,name\r\n".to_vec(), (0..200).flat_map(row).collect()].concat()
}

const ODD: [(usize, &[u8]); 4] =
    [(20, b"20,raise\r\n"), (63, b"7,8,9,10\r\n"), (64, b"64,caf\xe9\r\n"), (199, b"199,raise\r\n")];
const BAD: [usize; 4] = [20, 63, 64, 199];
const TOLD: [(u64, &str); 4] = [(21, "exception"), (64, "input"), (65, "input"), (200, "exception")];

#[test]
fn rows_of_csv_that_can_t_be_parsed_and_rows_that_the_script_can_t_bear() {
    if !crate::has_pandas() {
        return;
    }
    for (size, encoding) in [("50rows", "utf-8"), ("1MB", "utf-8-sig")] {
        let place = Place::new();
        place.write("t.csv", csv(&ODD));
        let more = format!("input_type: csv\nmini_batch_size: {size}\nread_csv: {{encoding: {encoding}}}\n");
        let (rows, errors) = ran(&place, "t.csv", &more);
        assert_each_once(&rows, &expected(200, &BAD));
        assert_eq!(errors, told(&TOLD));
    }
}

/// One odd value makes text of the column of all rows that it is read with: the others must be read without it.
#[test]
fn a_value_of_another_type_costs_its_row_and_not_those_beside_it() {
    if !crate::has_pandas() {
        return;
    }
    for (name, kind) in [("t.csv", "csv"), ("t.jsonl", "jsonl")] {
        let place = Place::new();
        let amount = |row: usize| if row == 27 { "\"x\"".to_string() } else { format!("{}", row * 3) };
        let text: String = match kind {
            "csv" => (0..40).map(|row| format!("{row},{}\n", amount(row))).collect(),
            _ => (0..40).map(|row| format!("{{\"id\": {row}, \"amount\": {}}}\n", amount(row))).collect(),
        };
        place.write(name, if kind == "csv" { format!("id,amount\n{text}") } else { text });
        let more = format!("input_type: {kind}\nmini_batch_size: 20rows\non_failure: bisect\nrun_max_try: 1\n");
        job(&place, ADDS, &format!("[{name}]"), &more);
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
        assert_each_once(&place.rows(), &expected(40, &[27]));
        assert_eq!(places(&place), BTreeSet::from([(name.to_string(), 28)]));
    }
}

#[test]
fn packed_tables_and_those_without_a_header() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &csv(&ODD)).unwrap();
    place.write("t.csv.gz", packed.finish().unwrap());
    let (rows, errors) = ran(&place, "t.csv.gz", "input_type: csv\n");
    assert_each_once(&rows, &expected(200, &BAD));
    assert_eq!(errors, told(&TOLD));

    let place = Place::new();
    place.write("t.csv", &csv(&ODD)[b"id,name\r\n".len()..]);
    let script = SCRIPT.replace("mini_batch.name", "mini_batch[1]").replace("mini_batch.id", "mini_batch[0]");
    job(
        &place,
        &script,
        "[t.csv]",
        "input_type: csv\nmini_batch_size: 50rows\non_failure: bisect\nrun_max_try: 1\nread_csv: {header: false}\n",
    );
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_each_once(&place.rows(), &expected(200, &BAD));
}

#[test]
fn rows_of_a_type_that_they_are_not() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("t.csv", csv(&[(20, b"20,raise\r\n"), (120, b"many,x\r\n")]));
    let more = "input_type: csv\nmini_batch_size: 100rows\nread_csv: {dtype: {id: int64}}\n";
    let (rows, errors) = ran(&place, "t.csv", more);
    assert_each_once(&rows, &expected(200, &[20, 120]));
    assert_eq!(errors, told(&[(21, "exception"), (121, "input")]));
}

#[test]
fn lines_of_json_and_rows_of_parquet() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let line = |row: usize| match row {
        20 => "{\"id\": 20, \"name\": \"raise\"}\n".into(),
        77 => "{\"id\": 77, \"name\"}\n\n".into(),
        _ => format!("{{\"id\": {row}, \"name\": \"x\"}}\n"),
    };
    place.write("t.jsonl", (0..100).map(line).collect::<String>());
    let (rows, errors) = ran(&place, "t.jsonl", "input_type: jsonl\nmini_batch_size: 50rows\n");
    assert_each_once(&rows, &expected(100, &[20, 77]));
    assert_eq!(errors, told(&[(21, "exception"), (78, "input")]));

    let place = Place::new();
    let make = "import pandas
names = ['raise' if row in (20, 70) else 'x' for row in range(100)]
pandas.DataFrame({'id': range(100), 'name': names}).to_parquet('t.parquet', row_group_size=50)
";
    crate::jobs::python_makes(&place, make);
    let (rows, errors) = ran(&place, "t.parquet", "input_type: parquet\nmini_batch_size: 50rows\n");
    assert_each_once(&rows, &expected(100, &[20, 70]));
    assert_eq!(errors, told(&[(21, "exception"), (71, "exception")]));
}

/// A row of an id, a key of two values, and an amount; some amounts are texts.
fn keyed(row: usize, odd: &[usize]) -> (usize, &'static str, String) {
    (row, ["a", "b"][row % 2], if odd.contains(&row) { "\"x\"".into() } else { (row * 3).to_string() })
}

/// Can't bear texts as amounts: one among the rows that are read makes texts of all of them.
const ADDS: &str = "def run(mini_batch):
    assert list(mini_batch.index) == list(range(len(mini_batch)))
    return list((mini_batch.amount + 1).astype(int) - 1 - 2 * mini_batch.id)
";

/// For each error the file that it is in and the row.
fn places(place: &Place) -> BTreeSet<(String, u64)> {
    let told = place.errors().into_iter().map(|error| {
        assert_eq!(error["item_count"], 1, "{error}");
        let (file, row) = error["item"].as_str().unwrap().rsplit_once(", row ").unwrap();
        (file.rsplit('/').next().unwrap().to_string(), row.parse().unwrap())
    });
    told.collect()
}

/// Gathered of two files: with the same header, which are one segment, with columns in another order, which are two, and of JSON.
#[test]
fn rows_that_were_gathered_by_a_column_keep_types_of_their_own() {
    if !crate::has_pandas() {
        return;
    }
    let csv = |rows: std::ops::Range<usize>, odd: &[usize], turned: bool| {
        let line = |row| {
            let (id, key, amount) = keyed(row, odd);
            if turned { format!("{amount},{id},{key}\n") } else { format!("{id},{key},{amount}\n") }
        };
        let header = if turned { "amount,id,key\n" } else { "id,key,amount\n" };
        format!("{header}{}", rows.map(line).collect::<String>())
    };
    let json = |rows: std::ops::Range<usize>, odd: &[usize]| {
        let line = |row| {
            let (id, key, amount) = keyed(row, odd);
            format!("{{\"id\": {id}, \"key\": \"{key}\", \"amount\": {amount}}}\n")
        };
        rows.map(line).collect::<String>()
    };
    let odd = [0, 31, 50];
    let tables = [
        ("csv", csv(0..40, &odd, false), csv(40..60, &odd, false)),
        ("csv", csv(0..40, &odd, false), csv(40..60, &odd, true)),
        ("jsonl", json(0..40, &odd), json(40..60, &odd)),
    ];
    for (kind, first, second) in tables {
        let place = Place::new();
        place.write("in/1.t", first);
        place.write("in/2.t", second);
        let more = format!("input_type: {kind}\npartition_keys: [key]\non_failure: bisect\nrun_max_try: 1\n");
        job(&place, ADDS, "[in]", &more);
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
        assert_each_once(&place.rows(), &expected(60, &odd));
        let bad = [("1.t", 1), ("1.t", 32), ("2.t", 11)].map(|(file, row)| (file.to_string(), row));
        assert_eq!(places(&place), BTreeSet::from(bad));
    }
}

/// A column that only other rows have, of this file or of another one: a part has it as well, with nothing in it.
#[test]
fn a_part_has_all_columns_of_its_mini_batch() {
    if !crate::has_pandas() {
        return;
    }
    let script = "def run(mini_batch):
    assert [name for name in mini_batch.columns if name != 'year'] == ['id', 'key', 'name', 'more'], list(mini_batch.columns)
    if (mini_batch.name == 'raise').any():
        raise ValueError('bad row')
    return [str(row.id) for row in mini_batch.itertuples() if row.more != row.more or row.id > 15]
";
    let name = |row: usize| if row == 13 { "raise" } else { "x" };
    let csv = |rows: std::ops::Range<usize>, more: bool| {
        let more = |text: &str| if more { format!(",{text}") } else { String::new() };
        let lines = rows.map(|row| format!("{row},a,{}{}\n", name(row), more("y"))).collect::<String>();
        format!("id,key,name{}\n{lines}", more("more"))
    };
    let json = |row: usize| {
        let more = if row == 19 { ", \"more\": 1" } else { "" };
        format!("{{\"id\": {row}, \"key\": \"a\", \"name\": \"{}\"{more}}}\n", name(row))
    };
    let jobs = [
        ("jsonl", (0..20).map(json).collect::<String>(), None, ""),
        ("jsonl", (0..20).map(json).collect::<String>(), None, "partition_keys: [key]\n"),
        ("csv", csv(0..16, false), Some(csv(16..20, true)), "partition_keys: [key]\n"),
        ("csv", csv(0..16, false), Some(csv(16..20, true)), "partition_format: '{year}/*.t'\npartition_keys: [year]\n"),
    ];
    for (kind, first, second, more) in jobs {
        let place = Place::new();
        place.write("in/2024/1.t", first);
        if let Some(second) = second {
            place.write("in/2024/2.t", second);
        }
        let common = "on_failure: bisect\nrun_max_try: 1\n";
        job(&place, script, "[in]", &format!("input_type: {kind}\n{common}{more}"));
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
        let errors = place.errors();
        assert!(errors.len() == 1 && errors[0]["item"].as_str().unwrap().contains("row 14"), "{errors:?}");
        assert_each_once(&place.rows(), &expected(20, &[13]));
    }
}

/// Killed again and again while rows of a file, and gathered ones, are bisected: each is in the output once, or named by an error.
#[test]
fn parts_of_tables_survive_kills() {
    if !crate::has_pandas() {
        return;
    }
    let odd = [20, 63, 64, 199];
    for more in ["mini_batch_size: 50rows\n", "partition_keys: [key]\n"] {
        let place = Place::new();
        let line = |row| {
            let (id, key, amount) = keyed(row, &odd);
            format!("{id},{key},{amount}\n")
        };
        place.write("t.csv", format!("id,key,amount\n{}", (0..200).map(line).collect::<String>()));
        let calls = place.path("calls");
        let counts = format!("    print(len(mini_batch), file=open({calls:?}, 'a'))\n    return list");
        let common = "input_type: csv\non_failure: bisect\nrun_max_try: 3\n";
        job(&place, &ADDS.replace("    return list", &counts), "[t.csv]", &format!("{common}{more}"));
        let begun = || std::fs::read_to_string(&calls).map_or(0, |text| text.lines().count());
        let mut kills = 0;
        // Far enough apart that no row runs alone at three of them.
        while kills < 6 {
            let before = begun();
            let mut child = place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
            let over = wait_for("it to go on", || match child.try_wait().unwrap() {
                Some(_) => Some(true),
                None => (begun() >= before + 7 + kills).then_some(false),
            });
            if over {
                break;
            }
            kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        assert!(kills > 2, "it was over after {kills} kills");
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
        assert_each_once(&place.rows(), &expected(200, &odd));
        assert_eq!(places(&place), odd.iter().map(|row| ("t.csv".to_string(), *row as u64 + 1)).collect());
        place.run(&["doctor", "--verify", "job"]).expect(0);
        place.nothing_left().unwrap();
    }
}

/// A row that pandas can't read, among gathered ones: what is said of it, and the rows beside it.
#[test]
fn a_gathered_row_that_can_t_be_read() {
    if !crate::has_pandas() {
        return;
    }
    let line = |row: usize| match row {
        31 => b"31,b,caf\xe9\n".to_vec(),
        _ => format!("{row},{},{}\n", ["a", "b"][row % 2], if row == 8 { "raise" } else { "x" }).into_bytes(),
    };
    for files in [1, 2] {
        let place = Place::new();
        for file in 0..files {
            let rows = file * 60 / files..(file + 1) * 60 / files;
            place.write(format!("in/{file}.csv"), [b"id,key,name\n".to_vec(), rows.flat_map(line).collect()].concat());
        }
        let (rows, errors) = ran(&place, "in", "input_type: csv\npartition_keys: [key]\n");
        assert_each_once(&rows, &expected(60, &[8, 31]));
        assert_eq!(errors, told(&[(9, "exception"), (32 - 30 * (files as u64 - 1), "input")]));
        let said = place.errors().iter().find(|error| error["kind"] == "input").unwrap()["message"].to_string();
        let whose =
            ["in/0.csv`, a row that `partition_keys` gathered there", "one of the rows that `partition_keys` gathered"];
        assert!(said.contains(whose[files - 1]), "{said}");
        assert!(said.contains(", byte 9 of it: 0xe9 is no utf-8"), "{said}");
    }
}

/// Partitions by values of paths: their mini-batches are several whole files.
#[test]
fn rows_of_whole_files_that_are_one_mini_batch() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let line = |row: usize| match row {
        27 => format!("{row},x\n"),
        44 => format!("{row},9,9\n"),
        _ => format!("{row},{}\n", row * 3),
    };
    let file = |rows: std::ops::Range<usize>| format!("id,amount\n{}", rows.map(line).collect::<String>());
    // The second one has a blank line, and the third one no end of its last.
    place.write("in/2024/1.csv", file(0..20));
    place.write("in/2024/2.csv", file(20..40) + "\n");
    place.write("in/2024/3.csv", file(40..50).trim_end());
    let more = "input_type: csv\non_failure: bisect\nrun_max_try: 1\npartition_format: '{year}/*.csv'\npartition_keys: [year]\n";
    job(&place, ADDS, "[in]", more);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_each_once(&place.rows(), &expected(50, &[27, 44]));
    let told = |kind: &str, of: &str| -> String {
        let errors = place.errors();
        let mut found = errors.iter().filter(|error| error["kind"] == kind);
        let error = found.next().unwrap_or_else(|| panic!("{errors:?}"));
        assert!(found.next().is_none() && error["item_count"] == 1, "{errors:?}");
        error[of].as_str().unwrap().to_string()
    };
    assert!(told("exception", "item").ends_with("1.csv and 2 files more, row 28 of all"));
    assert!(told("input", "item").ends_with("1.csv and 2 files more, row 45 of all"));
    let said = told("input", "message");
    assert!(said.ends_with("in/2024/3.csv`, row 5: it has more fields than the file has columns"), "{said}");
}
