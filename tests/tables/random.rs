//! What random tables share: how many there are, what is in them, and how Python compares what became of them.

use std::fmt::Write as _;
use std::process::Command;

use fanfold_shared::job::{self, JobSpec};
use serde_json::{Value, json};

use crate::python;
use crate::seed::Random;
use crate::support::Place;

/// Tables of each kind: 150, or as often as many as `FANFOLD_TABLES_ROUNDS` says, other ones each time.
pub fn numbers() -> std::ops::Range<u64> {
    let rounds = std::env::var("FANFOLD_TABLES_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number"));
    0..150 * rounds
}

/// A place with a script.
pub fn place() -> Place {
    let place = Place::new();
    place.write("score.py", "def run(mini_batch):\n    return mini_batch\n");
    place
}

/// The job over the input `name`.
pub fn spec(place: &Place, name: &str, more: &str) -> JobSpec {
    let yaml = format!("name: table\nentry_script: score.py\ninputs: [{name}]\n{more}\n");
    job::parse(&yaml, &place.path("job.yaml"), &[], &job::NoDatasets)
        .unwrap_or_else(|errors| panic!("{yaml}\n{errors:?}"))
}

/// What the host program is told of its tables.
pub fn options(spec: &JobSpec) -> Value {
    json!({
        "kind": spec.input_type.name(),
        "sep": spec.read_csv.sep,
        "encoding": spec.read_csv.encoding,
        "header": spec.read_csv.header,
        "quotechar": spec.read_csv.quotechar,
        "dtype": spec.read_csv.dtype,
    })
}

/// Has Python compare with pandas, by `script` of this folder. Returns how many it could compare; all of them were equal.
pub fn compared(place: &Place, cases: &[Value], script: &str) -> usize {
    let text: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let cases = place.write("cases.jsonl", text);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let script = format!("{root}/tests/tables/{script}");
    let ran = Command::new(python()).arg(script).arg(cases).arg(format!("{root}/worker/python/host")).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    said.trim().parse().unwrap_or_else(|_| panic!("{said}"))
}

/// What a program that knows CSV writes: every field may be anything, quoted where that is needed.
pub fn well_formed(random: &mut Random, sep: char, columns: u64) -> Vec<u8> {
    let end = *random.pick(&["\n", "\r\n", "\n", "\r"]);
    let mut text = random.pick(&["", "\u{feff}", "\n", ""]).to_string();
    let rows = random.between(1, 40);
    for row in 0..=rows {
        if random.percent(5) {
            text += *random.pick::<&str>(&["", " ", if sep == '\t' { " " } else { "\t " }]);
            text += end;
        }
        // Short rows are filled up; of the header and the first row pandas learns how many columns there are.
        let fields = if row > 1 && random.percent(5) { random.between(1, columns) } else { columns };
        for field in 0..fields {
            let value = match random.between(0, 7) {
                _ if row == 0 => format!("c{field}"),
                0 => String::new(),
                1 => "plain".into(),
                2 => format!("quote \" {sep} and{end}end"),
                3 => "\"".into(),
                4 => "日本".into(),
                5 => "5\" pipe".into(),
                _ => random.between(0, 999).to_string(),
            };
            let quoted = value.contains([sep, '"', '\n', '\r']) || random.percent(20);
            // A line of nothing at all is none: the empty field of a single column is quoted.
            let quoted = quoted || value.is_empty() && columns == 1;
            if field > 0 {
                text.push(sep);
            }
            match quoted {
                true => write!(text, "\"{}\"", value.replace('"', "\"\"")).unwrap(),
                false => text += &value,
            }
        }
        if row < rows || random.percent(70) {
            text += end;
        }
    }
    text.into_bytes()
}
