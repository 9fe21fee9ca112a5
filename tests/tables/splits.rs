//! Random tables, split at any size, beside what pandas reads of the whole file.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fanfold::prepare::listing;
use fanfold::prepare::splitter::{Grace, News};
use fanfold_shared::items::{Fingerprints, ItemReader, ItemWriter};
use fanfold_shared::job::JobSpec;
use fanfold_shared::split::{Split, SplitInput};
use serde_json::{Value, json};

use crate::python;
use crate::random::{compared, numbers, options, place, spec, well_formed};
use crate::seed::Random;
use crate::support::Place;

/// What compares the frames of all slices with the whole files.
const SCRIPT: &str = "compare.py";

/// Lists the table as the job says, and returns where its slices are, for `compare.py`; None: it is refused.
fn slices(place: &Place, number: u64, name: &str, more: &str) -> Result<Value, String> {
    let spec = spec(place, name, more);
    let dir = place.path(format!("items-{name}"));
    let listed = listing::list(&spec, &dir, &[], Grace::Endless, &|| Ok(())).map_err(|error| error.to_string())?;
    let (items, split) = (&listed.items, listed.items.split());
    let counted = listing::count(&spec, &[], &|| Ok(())).unwrap().split;
    assert_eq!((counted.items(), counted.mini_batches()), (split.items(), split.mini_batches()), "{more}");
    goes_on_anywhere(&spec, items, &dir.with_extension("begun"), number);
    let slices: Vec<Value> = (0..split.mini_batches())
        .map(|id| {
            let slice = items.slice(id).unwrap().unwrap();
            let rows = split.mini_batch(id).1;
            json!([slice.part.start, slice.part.end, slice.header_len, slice.first_row, rows.end - rows.start])
        })
        .collect();
    Ok(json!({
        "path": place.path(name),
        "kind": spec.input_type.name(),
        "options": options(&spec),
        "slices": slices,
    }))
}

/// A list that was begun with some of the mini-batches of `items` and left there ends as that one.
fn goes_on_anywhere(spec: &JobSpec, items: &ItemReader, dir: &Path, number: u64) {
    let split = items.split();
    let mut names = ItemWriter::create(dir, 0).unwrap();
    names.items_are_rows();
    items.for_each(0..items.entries(), |_, name| names.push(name).unwrap()).unwrap();
    let inputs = split.inputs.iter().map(|input| SplitInput { items: 0..0, ..input.clone() }).collect();
    let mut begun = names.finish_names(Split { inputs, ..split.clone() }).unwrap();
    begun.open().unwrap();
    let stretches = 1 + number % 3;
    for id in 0..number % (split.mini_batches() + 1) {
        let rows = split.mini_batch(id).1;
        begun.push(&items.slice(id).unwrap().unwrap(), rows.end - rows.start, 0).unwrap();
        if id % stretches == 0 {
            begun.save().unwrap();
        }
    }
    Fingerprints::create(dir, items.entries()).unwrap().take(items, 0..items.entries()).unwrap();
    drop(begun);
    // Who has it open meanwhile sees it grow.
    let early = ItemReader::open(dir).unwrap();
    assert!(!early.split().is_complete());
    let mut listed = listing::list(spec, dir, &[], Grace::Over(Duration::ZERO), &|| Ok(())).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(splitting) = &mut listed.splitting {
        match splitting.look() {
            News::None | News::More => assert!(Instant::now() < deadline, "it never ends"),
            News::Complete => listed.splitting = None,
            News::Failed(error) => panic!("{error}"),
        }
        std::thread::yield_now();
    }
    listed.items.complete().unwrap();
    early.complete().unwrap();
    let again = ItemReader::open(dir).unwrap();
    assert_eq!(again.split(), split);
    for reader in [&again, &listed.items, &early] {
        assert!(reader.split().is_same_list(split) && reader.split().is_complete());
        for id in 0..split.mini_batches() {
            assert_eq!(reader.split().mini_batch(id).1, split.mini_batch(id).1);
            assert_eq!(reader.slice(id).unwrap(), items.slice(id).unwrap());
        }
    }
}

/// Anything that may stand in a file.
fn soup(random: &mut Random) -> Vec<u8> {
    const PIECES: [&str; 17] = [
        "a",
        "1",
        "2.5",
        ",",
        ",",
        "\"",
        "\"\"",
        "\n",
        "\n",
        "\r\n",
        "\r",
        " ",
        "\t",
        "é",
        "\"x,\ny\"",
        "NA",
        "\u{feff}",
    ];
    let pieces = random.between(1, 60);
    let text: String = (0..pieces).map(|_| *random.pick(&PIECES)).collect();
    format!("h{}{text}", random.pick(&["", "\n", ",i\n", ",i,j\n"])).into_bytes()
}

fn json_lines(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..random.between(1, 40) {
        if random.percent(10) {
            text += *random.pick::<&str>(&["\n", " \n", "\t\n"]);
        }
        let name = *random.pick(&["x", "", "é\\n", "\\u2028", "\"".replace('"', "\\\"").leak()]);
        let end = if random.percent(20) { "\r\n" } else { "\n" };
        write!(text, "{{\"id\": {row}, \"name\": \"{name}\"}}{end}").unwrap();
    }
    text.into_bytes()
}

fn size(random: &mut Random) -> String {
    match random.percent(50) {
        true => format!("mini_batch_size: {}rows", random.between(1, 12)),
        false => format!("mini_batch_size: {}", random.between(1, 400)),
    }
}

#[test]
fn frames_of_csv_put_together_are_what_pandas_reads_of_the_whole_file() {
    if !crate::has_pandas() {
        return;
    }
    let place = place();
    let mut cases = Vec::new();
    for number in numbers() {
        let mut random = Random::new(number);
        let tsv = random.percent(25);
        let (kind, sep) = if tsv { ("tsv", '\t') } else { ("csv", *random.pick(&[',', ',', ';', '|'])) };
        let name = format!("{number}.csv");
        let columns = random.between(1, 5);
        place.write(&name, well_formed(&mut random, sep, columns));
        let header = if random.percent(25) { "false" } else { "true" };
        let sep = if tsv { String::new() } else { format!("sep: \"{sep}\", ") };
        let more =
            format!("input_type: {kind}\nread_csv: {{{sep}header: {header}, dtype: str}}\n{}", size(&mut random));
        cases.push(slices(&place, number, &name, &more).unwrap_or_else(|error| panic!("{number}: {error}")));
    }
    let equal = compared(&place, &cases, SCRIPT);
    assert!(equal >= numbers().count(), "only {equal} tables could be compared");
}

#[test]
fn whatever_a_file_holds_it_is_split_where_pandas_sees_records() {
    if !crate::has_pandas() {
        return;
    }
    let place = place();
    let mut cases = Vec::new();
    for number in 0..4 * numbers().end {
        let mut random = Random::new(1_000_000 + number);
        let name = format!("{number}.csv");
        place.write(&name, soup(&mut random));
        let header = random.percent(70);
        let more = format!("input_type: csv\nread_csv: {{dtype: str, header: {header}}}\n{}", size(&mut random));
        match slices(&place, number, &name, &more) {
            Ok(case) => cases.push(case),
            Err(refused) => {
                assert!(refused.contains("never closed") || refused.contains("no rows"), "{number}: {refused}")
            }
        }
    }
    // Most of such files pandas can't read as a whole either.
    let equal = compared(&place, &cases, SCRIPT);
    assert!(equal >= 50, "only {equal} tables could be compared");
}

#[test]
fn frames_of_json_lines_put_together_are_what_pandas_reads_of_the_whole_file() {
    if !crate::has_pandas() {
        return;
    }
    let place = place();
    let mut cases = Vec::new();
    for number in numbers() {
        let mut random = Random::new(2_000_000 + number);
        let name = format!("{number}.jsonl");
        place.write(&name, json_lines(&mut random));
        let more = format!("input_type: jsonl\n{}", size(&mut random));
        cases.push(slices(&place, number, &name, &more).unwrap_or_else(|error| panic!("{number}: {error}")));
    }
    let equal = compared(&place, &cases, SCRIPT);
    assert!(equal >= numbers().count(), "only {equal} tables could be compared");
}

#[test]
fn frames_of_parquet_are_whole_row_groups() {
    if !crate::has_pandas() {
        return;
    }
    let place = place();
    let make = "import sys\nimport pandas\nimport pyarrow as pa\nimport pyarrow.parquet as pq\nfor n in range(12):\n    \
                frame = pandas.DataFrame({'id': range(n * 7), 'name': [None if i % 5 == 0 else f'é{i}' for i in range(n * 7)]})\n    \
                frame = frame.set_index('id') if n % 3 == 1 else frame\n    \
                pq.write_table(pa.Table.from_pandas(frame), f'{sys.argv[1]}/{n}.parquet', row_group_size=n % 4 + 1)\n";
    let made = Command::new(python()).args(["-c", make]).arg(place.path("")).status().unwrap();
    assert!(made.success());
    let mut cases = Vec::new();
    for number in 1..12 {
        let mut random = Random::new(number);
        let more = format!("input_type: parquet\n{}", size(&mut random));
        cases.push(slices(&place, number, &format!("{number}.parquet"), &more).unwrap());
    }
    let equal = compared(&place, &cases, SCRIPT);
    assert!(equal >= 11, "only {equal} tables could be compared");
}
