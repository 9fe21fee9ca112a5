//! Random tables, gathered by random columns, beside the groups that `pandas.DataFrame.groupby` makes of the whole files.

use std::fmt::Write as _;
use std::process::Command;

use fanfold::prepare::listing;
use serde_json::{Value, json};

use crate::python;
use crate::random::{compared, numbers, options, place, spec, well_formed};
use crate::seed::Random;
use crate::support::Place;

/// What compares the frames of all groups with those of the whole files.
const SCRIPT: &str = "compare_groups.py";

/// Lists the tables in the folder `name` as the job says, and returns its groups, for `compare_groups.py`.
fn groups(place: &Place, name: &str, more: &str) -> Value {
    let spec = spec(place, name, more);
    let dir = place.path(format!("items-{name}"));
    // Runs of the sort so short that all of it is spilled.
    let listed = listing::list_with(&spec, &dir, &[], 500).unwrap_or_else(|error| panic!("{more}\n{error}"));
    let (items, split) = (&listed.items, listed.items.split());
    let counted = listing::count(&spec, &[], &|| Ok(())).unwrap().split;
    assert_eq!((counted.items(), counted.mini_batches()), (split.items(), split.mini_batches()), "{more}");
    let (records, origins) = items.group_files();
    let groups: Vec<Value> = (0..split.mini_batches())
        .map(|id| {
            let group = items.group(&items.slice(id).unwrap().unwrap()).unwrap();
            let rows = split.mini_batch(id).1;
            let key: Vec<Option<String>> = (group.key.iter())
                .map(|value| value.as_ref().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()))
                .collect();
            let mut ordinal = rows.start;
            let segments: Vec<Value> = (group.segments.iter())
                .map(|segment| {
                    let path = &items.paths(segment.entry.into()..u64::from(segment.entry) + 1).unwrap()[0];
                    let in_place = segment.records.is_empty();
                    let part = if in_place { ordinal..ordinal + segment.rows } else { segment.records.clone() };
                    ordinal += segment.rows;
                    let told = json!({
                        "file": if in_place { &origins } else { &records },
                        "header": [segment.header.start, segment.header.end],
                        "columns": segment.columns,
                        "records": [part.start, part.end],
                        "crc32": segment.crc32,
                        "rows": segment.rows,
                        "of_others": false,
                    });
                    json!(format!("@{told}\n{}", path.display()))
                })
                .collect();
            assert_eq!(ordinal, rows.end);
            let from: Vec<Value> = rows
                .map(|row| items.origin(row).unwrap())
                .map(|origin| {
                    let path = &items.paths(origin.entry.into()..u64::from(origin.entry) + 1).unwrap()[0];
                    json!([path, origin.row])
                })
                .collect();
            json!({ "key": key, "segments": segments, "origins": from })
        })
        .collect();
    json!({
        "files": items.paths(0..items.entries()).unwrap(),
        "kind": spec.input_type.name(),
        "keys": spec.partition.as_ref().unwrap().keys,
        "options": options(&spec),
        "groups": groups,
    })
}

/// One or two of so many columns.
fn chosen(random: &mut Random, columns: u64, name: impl Fn(u64) -> String) -> String {
    let first = random.between(0, columns - 1);
    let mut keys = vec![name(first)];
    if columns > 1 && random.percent(40) {
        keys.push(name((first + 1) % columns));
    }
    format!("partition_keys: [{}]", keys.join(", "))
}

#[test]
fn groups_of_csv_are_those_of_pandas() {
    if !crate::has_pandas() {
        return;
    }
    let place = place();
    let mut cases = Vec::new();
    for number in numbers().step_by(3) {
        let mut random = Random::new(7_000_000 + number);
        let tsv = random.percent(25);
        let (kind, sep) = if tsv { ("tsv", '\t') } else { ("csv", *random.pick(&[',', ',', ';', '|'])) };
        let header = random.percent(75);
        let columns = random.between(1, 4);
        for file in 0..random.between(1, 4) {
            let columns = if header { random.between(columns, 4) } else { columns };
            place.write(format!("{number}/{file}.csv"), well_formed(&mut random, sep, columns));
        }
        let name = |column: u64| if header { format!("c{column}") } else { column.to_string() };
        let keys = chosen(&mut random, columns, name);
        let sep = if tsv { String::new() } else { format!("sep: \"{sep}\", ") };
        let more = format!("input_type: {kind}\nread_csv: {{{sep}header: {header}, dtype: str}}\n{keys}");
        cases.push(groups(&place, &number.to_string(), &more));
    }
    assert!(compared(&place, &cases, SCRIPT) >= cases.len(), "every table has a group");
}

/// Lines with keys of all kinds, or without.
fn json_lines(random: &mut Random) -> String {
    const VALUES: [&str; 12] = [
        "\"x\"",
        "\"\"",
        "\"\\u00e9\"",
        "\"é\"",
        "null",
        "1",
        "1.0",
        "true",
        "\"1\"",
        "\"a\\\"b\\n\"",
        "-2",
        "\"\\u0000\"",
    ];
    let mut text = String::new();
    for row in 0..random.between(1, 30) {
        if random.percent(10) {
            text += *random.pick::<&str>(&["\n", " \n", "\t\n"]);
        }
        write!(text, "{{\"id\": {row}").unwrap();
        for key in ["a", "b"] {
            if row == 0 || random.percent(80) {
                write!(text, ", \"{key}\": {}", random.pick(&VALUES)).unwrap();
            }
        }
        text += if random.percent(20) { "}\r\n" } else { "}\n" };
    }
    if random.percent(30) {
        text.truncate(text.trim_end().len());
    }
    text
}

#[test]
fn groups_of_json_lines_are_those_of_pandas() {
    if !crate::has_pandas() {
        return;
    }
    let place = place();
    let mut cases = Vec::new();
    for number in numbers().step_by(3) {
        let mut random = Random::new(8_000_000 + number);
        for file in 0..random.between(1, 3) {
            place.write(format!("{number}/{file}.jsonl"), json_lines(&mut random));
        }
        let keys = chosen(&mut random, 2, |column| ["a", "b"][column as usize].into());
        cases.push(groups(&place, &number.to_string(), &format!("input_type: jsonl\n{keys}")));
    }
    assert!(compared(&place, &cases, SCRIPT) >= cases.len(), "every table has a group");
}

#[test]
fn groups_of_parquet_are_those_of_pandas() {
    if !crate::has_pandas() {
        return;
    }
    let place = place();
    let made = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tables/make_groups.py"))
        .arg(place.path(""))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut cases = Vec::new();
    for number in 0..40 {
        let mut random = Random::new(9_000_000 + number);
        const KEYS: [&str; 7] = ["text", "number", "byte", "big", "ok", "day", "kind"];
        let keys = chosen(&mut random, KEYS.len() as u64, |column| KEYS[column as usize].into());
        cases.push(groups(&place, &format!("parquet{number}"), &format!("input_type: parquet\n{keys}")));
    }
    assert!(compared(&place, &cases, SCRIPT) >= cases.len(), "every table has a group");
}
