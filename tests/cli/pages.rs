//! What the program says of itself elsewhere than in `--help`: keys of the job file, manual pages, completions.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::usage::VERBS;
use crate::support::Place;

#[test]
fn keys_are_listed_and_explained() {
    let place = Place::new();
    let list = place.run(&["job-file"]).expect(0).stdout;
    assert!(list.contains("\n  run_max_try                  3\n"), "{list}");
    assert!(list.contains("\n  entry_script                 required\n"), "{list}");
    insta::assert_snapshot!(place.run(&["job-file", "run_max_try", "name"]).expect(0).stdout, @r#"
    run_max_try
      Attempts of a mini-batch, the first one, timeouts and dead processes included. Out of tries, its items have failed, or `on_failure` says what else.
      takes    a whole number of at least 1
      default  3
      example  run_max_try: 3
      more     docs/failures.md#what-counts

    name
      Names the job. The job id is this name, a `-` and eight characters that no other job has.
      takes    3 to 32 of `a-z`, `0-9` and `-`, starting with a letter and not ending with `-`
      default  none: it is required
      example  name: score-images
    "#);
    let text = place.run(&["job-file", "gpus", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!((&json["keys"][0]["name"], &json["keys"][0]["default"]), (&"gpus".into(), &"all".into()));
    assert_eq!(json["keys"].as_array().unwrap().len(), 1);

    for (wrong, hint) in [
        ("run_max_tyr", "did you mean `run_max_try`?"),
        ("instance_count", "here this key is `node_count`"),
        ("xyzzy\u{1b}[31m", "`fanfold job-file` lists them"),
    ] {
        let ran = place.run(&["job-file", "gpus", wrong]).expect(2);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.starts_with("error: a job file has no key `"), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("\nhint: {hint}")) && !ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let place = Place::new();
    let ran = place.run(&["man", "new/man1"]).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    let pages: Vec<String> = VERBS.iter().map(|verb| format!("fanfold-{verb}.1")).collect();
    for page in pages.iter().map(String::as_str).chain(["fanfold.1", "fanfold-dataset-register.1", "fanfold-worker.1"])
    {
        let path = place.path("new/man1").join(page);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.lines().any(|line| line.starts_with(".TH fanfold")), "{page}:\n{text}");
        let verb = page.trim_start_matches("fanfold-").trim_end_matches(".1");
        let Some(shown) = rendered(&path) else { continue };
        assert!(shown.contains("NAME\n") && shown.contains("SYNOPSIS\n"), "{page}:\n{shown}");
        assert!(shown.contains(verb), "{page}:\n{shown}");
    }
    // Printed alone it is the same overview; and what is there is replaced.
    let overview = place.path("new/man1/fanfold.1");
    assert_eq!(place.run(&["man"]).expect(0).stdout, fs::read_to_string(&overview).unwrap());
    for page in ["fanfold.1", "fanfold-worker.1"] {
        assert!(fs::read_to_string(place.path("new/man1").join(page)).unwrap().contains("EXIT STATUS"), "{page}");
    }
    fs::write(&overview, "old").unwrap();
    place.run(&["man", "new/man1"]).expect(0);
    assert_ne!(fs::read_to_string(&overview).unwrap(), "old");

    place.write("a-file", "");
    let ran = place.run(&["man", "a-file/man1"]).expect(2);
    assert!(ran.stderr.starts_with("error: cannot create `a-file/man1`"), "{}", ran.stderr);
}

/// The page as `man` shows it, if `man` is there. It must have nothing to complain of.
fn rendered(path: &Path) -> Option<String> {
    let mut man = Command::new("man");
    man.args(["--warnings", "-l"]).arg(path).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8");
    let shown = found("man", man)?;
    assert!(shown.status.success() && shown.stderr.is_empty(), "{}", String::from_utf8_lossy(&shown.stderr));
    Some(String::from_utf8(shown.stdout).expect("text"))
}

/// What a program says that need not be there.
fn found(name: &str, mut command: Command) -> Option<Output> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {name} is not installed");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Writes the completion of `shell` and asks it for something with `script`, in which `$1` is its file; None without that shell.
#[track_caller]
fn completed(shell: &str, options: &[&str], script: &str) -> Option<String> {
    let place = Place::new();
    let file = place.write("completion", place.run(&["completion", shell]).expect(0).stdout);
    let mut parse = Command::new(shell);
    parse.arg("-n").arg(&file);
    let parsed = found(shell, parse)?;
    assert!(parsed.status.success(), "it does not parse: {}", String::from_utf8_lossy(&parsed.stderr));
    let mut ask = Command::new(shell);
    ask.args(options).arg("-c").arg(script).env("COMPLETION", &file).env("HOME", place.path(""));
    let asked = found(shell, ask)?;
    let (said, wrong) = (String::from_utf8_lossy(&asked.stdout), String::from_utf8_lossy(&asked.stderr));
    assert!(asked.status.success() && wrong.is_empty(), "{said}{wrong}");
    Some(said.into_owned())
}

#[test]
fn bash_completes_verbs_and_options() {
    let ask = r#"
        source "$COMPLETION"
        ask() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _fanfold fanfold "${@: -1}" "${@: -2:1}"
            echo "${COMPREPLY[*]}"
        }
        complete -p fanfold >/dev/null || exit 1
        ask fanfold re
        ask fanfold retry --fa
        ask fanfold errors --kind time
        ask fanfold dataset reg
        "#;
    let Some(said) = completed("bash", &["--norc"], ask) else { return };
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    let mut verbs: Vec<&str> = lines[0].split(' ').collect();
    verbs.sort_unstable();
    assert_eq!(verbs, ["results", "resume", "retry"]);
    assert_eq!(lines[1..], ["--failed", "timeout", "register"]);
}

#[test]
fn zsh_takes_the_completion() {
    // It completes in a terminal only; here it is loaded, and knows whom it is for.
    let ask = r#"
        autoload -U compinit && compinit -D -u
        source "$COMPLETION"
        print -r -- "$_comps[fanfold]"
        functions -t _fanfold >/dev/null && (( $+functions[_fanfold_commands] )) && print verbs
        "#;
    let Some(said) = completed("zsh", &["-f"], ask) else { return };
    assert_eq!(said, "_fanfold\nverbs\n");
}

#[test]
fn fish_completes_verbs() {
    let Some(said) = completed("fish", &["--no-config"], r#"source $COMPLETION; complete -C "fanfold re""#) else {
        return;
    };
    let mut verbs: Vec<&str> = said.lines().filter_map(|line| line.split('\t').next()).collect();
    verbs.sort_unstable();
    assert_eq!(verbs, ["results", "resume", "retry"]);
}

#[test]
fn another_shell_is_refused_with_those_there_are() {
    let ran = Place::new().run(&["completion", "tcsh"]).expect(2);
    assert!(ran.stderr.contains("bash") && ran.stderr.contains("fish"), "{}", ran.stderr);
}
