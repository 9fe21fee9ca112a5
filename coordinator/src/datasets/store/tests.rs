use std::sync::Barrier;

use fanfold_shared::job::InputType;
use fanfold_shared::report::Report;

use super::*;
use crate::datasets::{Outcome, Registration, register};

struct Machine {
    root: tempfile::TempDir,
    store: DatasetStore,
}

impl Machine {
    fn new() -> Machine {
        let root = tempfile::tempdir().unwrap();
        let store = DatasetStore::at(root.path().join("state/datasets"));
        let machine = Machine { root, store };
        machine.write("iris/a.csv", "x\n1\n");
        machine
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn record(&self, name: &str) -> PathBuf {
        self.root.path().join("state/datasets").join(name)
    }

    fn iris(&self) -> Registration {
        Registration {
            name: "iris".into(),
            paths: vec!["iris".into()],
            base: self.root.path().into(),
            input_type: Some("csv".into()),
            read_csv: None,
            description: None,
            new_version: false,
            who: "me@box1".into(),
        }
    }

    fn register(&self, registration: &Registration) -> Result<(u32, bool), String> {
        let outcome = register(&self.store, registration, &|_| Ok(()));
        let told = outcome.map(|Outcome { dataset, known }| (dataset.id.version, known));
        told.map_err(|failure| self.told(&failure.one_line(), failure.hint()))
    }

    fn get(&self, wanted: &str) -> Result<u32, String> {
        let found = self.store.get(&DatasetRef::parse(wanted).unwrap());
        found.map(|dataset| dataset.id.version).map_err(|error| {
            let hint = error.hint();
            self.told(&Failure::from(error).one_line(), hint)
        })
    }

    fn told(&self, text: &str, hint: Option<String>) -> String {
        format!("{text}; {}", hint.unwrap_or_default()).replace(self.root.path().to_str().unwrap(), "<root>")
    }
}

#[test]
fn a_version_is_kept_and_found_again() {
    let machine = Machine::new();
    assert_eq!(machine.register(&machine.iris()), Ok((1, false)));
    let next = Registration { new_version: true, description: Some("again".into()), ..machine.iris() };
    assert_eq!(machine.register(&next), Ok((2, false)), "a new version, whatever the old one is");
    assert_eq!(["iris", "iris@latest", "iris:1"].map(|wanted| machine.get(wanted).unwrap()), [2, 2, 1]);
    let first = machine.store.get(&DatasetRef::parse("iris:1").unwrap()).unwrap();
    assert_eq!((first.input_type, first.files(), first.bytes()), (InputType::Csv, 1, 4));
    assert_eq!(first.paths[0].path, machine.root.path().join("iris").to_str().unwrap());
    assert_eq!(first.read_csv.unwrap().sep, ',');
    let listed: Vec<_> = machine.store.list().unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!((listed.len(), listed[0].newest.id.version, &listed[0].versions), (1, 2, &vec![1, 2]));
    let left = fs::read_dir(machine.record("iris")).unwrap().count();
    assert_eq!(left, 2, "nothing lies beside the versions");
}

#[test]
fn the_same_again_is_found_and_anything_else_is_refused() {
    let machine = Machine::new();
    let iris = Registration { description: Some("petals".into()), ..machine.iris() };
    assert_eq!(machine.register(&iris), Ok((1, false)));
    assert_eq!(machine.register(&iris), Ok((1, true)));
    assert_eq!(machine.register(&machine.iris()), Ok((1, true)), "a description need not be given again");
    let hint = "versions don't change: `--new-version` registers this as `iris:2`; `fanfold dataset show iris` shows what is there";
    let refused = |registration: &Registration, difference: &str| {
        let told = format!("`iris` is registered already: `iris:1` has {difference}; {hint}");
        assert_eq!(machine.register(registration), Err(told));
    };
    machine.write("more/b.csv", "x\n");
    refused(&Registration { paths: vec!["more".into()], ..iris.clone() }, "the path `<root>/iris`");
    refused(&Registration { input_type: None, ..iris.clone() }, "`input_type: csv`");
    refused(&Registration { read_csv: Some("{header: false}".into()), ..iris.clone() }, "another `read_csv`");
    refused(&Registration { description: Some("leaves".into()), ..iris.clone() }, "another description");
    machine.write("iris/c.csv", "x\n");
    refused(&iris, "the same paths with 1 file (4 B), where 2 files (6 B) are now");
    assert_eq!(machine.get("iris"), Ok(1), "nothing of it was kept");
}

#[test]
fn of_those_who_register_at_once_each_gets_a_version() {
    let machine = Machine::new();
    let at_once = |new_version| -> Vec<(u32, bool)> {
        let barrier = Barrier::new(8);
        let register = |at: usize| {
            barrier.wait();
            let who = format!("{at}");
            machine.register(&Registration { new_version, who, ..machine.iris() }).unwrap()
        };
        let register = &register;
        let mut outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|at| scope.spawn(move || register(at))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        outcomes.sort_unstable();
        outcomes
    };
    let first = at_once(false);
    assert_eq!(first.iter().filter(|outcome| **outcome == (1, false)).count(), 1, "{first:?}");
    assert!(first.iter().all(|(version, _)| *version == 1), "{first:?}");
    assert_eq!(at_once(true), (2..10).map(|version| (version, false)).collect::<Vec<_>>());
    assert_eq!(machine.store.versions("iris").unwrap(), (1..10).collect::<Vec<_>>());
}

#[test]
fn a_version_is_never_written_over() {
    let machine = Machine::new();
    machine.register(&machine.iris()).unwrap();
    let path = machine.record("iris/1.json");
    let before = fs::read(&path).unwrap();
    let dataset = machine.store.get(&DatasetRef::parse("iris:1").unwrap()).unwrap();
    let other = Dataset { description: Some("another".into()), ..dataset };
    assert!(!machine.store.keep(&other).unwrap());
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(fs::metadata(&path).unwrap().permissions().readonly());
}

#[test]
fn a_damaged_record_is_named_and_hurts_no_other() {
    let machine = Machine::new();
    machine.register(&machine.iris()).unwrap();
    machine.write("state/datasets/iris/2.json", "{\"version\": 1, \"dataset\": {\"name\": \"iri");
    let told = machine.get("iris").unwrap_err();
    assert!(
        told.starts_with("`<root>/state/datasets/iris/2.json` does not describe a version of a dataset: "),
        "{told}"
    );
    assert!(told.ends_with("or remove it and register the data again"), "{told}");
    assert_eq!(machine.get("iris:1"), Ok(1));
    assert!(machine.register(&machine.iris()).is_err());
    assert_eq!(machine.register(&Registration { new_version: true, ..machine.iris() }), Ok((3, false)));
    fs::copy(machine.record("iris/1.json"), machine.record("iris/4.json")).unwrap();
    let told = machine.get("iris:4").unwrap_err();
    assert!(told.starts_with("`<root>/state/datasets/iris/4.json` describes `iris:1`; "), "{told}");
    machine.write("state/datasets/iris/5.json", "{\"version\": 2, \"data\": 0}");
    let told = machine.get("iris:5").unwrap_err();
    assert!(told.contains("was written by a later version of fanfold (format 2)"), "{told}");
    let photos = Registration { name: "photos".into(), ..machine.iris() };
    machine.register(&photos).unwrap();
    let listed = machine.store.list().unwrap();
    let names: Vec<_> = listed.iter().flatten().map(|listed| listed.newest.id.name.as_str()).collect();
    assert_eq!((names, listed.len()), (vec!["photos"], 2));
}

#[test]
fn what_is_not_there_is_explained() {
    let machine = Machine::new();
    assert_eq!(
        machine.get("iris"),
        Err("there is no dataset `iris`; nothing is registered yet; `fanfold dataset register iris --path PATH` registers it".into())
    );
    machine.register(&machine.iris()).unwrap();
    assert_eq!(
        machine.get("irsi:1"),
        Err("there is no dataset `irsi`; did you mean `iris`? `fanfold dataset list` shows all".into())
    );
    assert_eq!(machine.get("photos"), Err("there is no dataset `photos`; `fanfold dataset list` shows all".into()));
    assert_eq!(machine.get("iris:7"), Err("dataset `iris` has no version 7; there is `iris:1`".into()));
    for name in ["", "5", "iris.csv", "../iris", "iris:1"] {
        let told = machine.register(&Registration { name: name.into(), ..machine.iris() }).unwrap_err();
        assert!(told.starts_with(&format!("a dataset can't be called `{name}`; ")), "{told}");
    }
    let nothing = Registration { name: "none".into(), paths: vec!["iris/*.png".into()], ..machine.iris() };
    assert!(machine.register(&nothing).unwrap_err().contains("matches no file"));
    let nowhere = DatasetStore::at("/proc/fanfold");
    assert!(register(&nowhere, &machine.iris(), &|_| Ok(())).is_err());
    assert!(nowhere.list().unwrap().is_empty() && nowhere.names().is_empty());
}
