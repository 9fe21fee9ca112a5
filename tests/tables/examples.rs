//! The examples give what their pages say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::python;
use crate::support::{Place, lines};

/// Runs an example and returns the rows of its output, after the header.
fn rows(name: &str, output: &str, header: &str) -> Vec<String> {
    let place = Place::new();
    let job = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).join("job.yaml");
    let environment = format!("environment={{python: {}}}", python().display());
    place.run(&["run", job.to_str().unwrap(), "--job-dir", "job", "--set", &environment]).expect(0);
    let mut rows = lines(&place.job().join("output").join(output));
    assert_eq!(rows.remove(0), header);
    rows
}

#[test]
fn flowers_are_named() {
    if !crate::has_pandas() {
        return;
    }
    let named = rows("iris", "named.csv", "flower,species");
    let truth = lines(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/iris/species.csv"));
    let right = named.iter().filter(|row| truth.contains(row)).count();
    assert_eq!((named.len(), right), (75, 70));
}

#[test]
fn each_store_is_seen_as_a_whole() {
    if !crate::has_pandas() {
        return;
    }
    let rows = rows("partitions", "sales.csv", "store,month,day,amount,of_mean");
    let mut of_mean: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in &rows {
        let fields: Vec<&str> = row.split(',').collect();
        of_mean.entry(fields[0]).or_default().push(fields[4].parse().unwrap());
    }
    let days: Vec<(&str, usize)> = of_mean.iter().map(|(store, days)| (*store, days.len())).collect();
    assert_eq!(days, [("north", 30), ("south", 20), ("west", 10)]);
    for (store, of_mean) in of_mean {
        let mean = of_mean.iter().sum::<f64>() / of_mean.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "{store}: {mean}");
    }
}
