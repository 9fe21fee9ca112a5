//! Nothing that is written in a job file or a flag makes the reader panic, and what is refused can be shown.

use std::sync::LazyLock;

use fanfold_shared::job::{KEYS, NoDatasets, parse};
use proptest::prelude::*;

use crate::folder::Folder;

/// Nothing is written, so one does for all.
static FOLDER: LazyLock<Folder> = LazyLock::new(Folder::new);

fn check(folder: &Folder, text: &str, overrides: &[String]) {
    if let Err(errors) = parse(text, &folder.job_file(), overrides, &NoDatasets) {
        assert!(!errors.errors.is_empty());
        let shown = errors.to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        for error in &errors.errors {
            let hint = error.hint.as_deref().unwrap_or_default();
            assert!(!hint.chars().any(char::is_control), "{hint:?}");
            if let Some(spot) = &error.place.spot {
                assert!(spot.line >= 1 && spot.column >= 1 && spot.width >= 1);
            }
        }
    }
}

/// YAML-like noise: the characters that mean something, real keys, and some text.
fn noise() -> impl Strategy<Value = String> {
    let keys: Vec<&'static str> = KEYS.iter().map(|key| key.name).collect();
    let piece = prop_oneof![
        prop::sample::select(keys).prop_map(String::from),
        prop::sample::select(vec![
            ": ",
            "\n",
            "\n  ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "'",
            "\"",
            "#",
            "&a ",
            "*a",
            "!!int ",
            "|\n ",
            ">",
            "<<: ",
            "~",
            "\t",
            "0",
            "-1",
            "1MB",
            "true",
            "${",
            "${inputs.x}",
            "--error_threshold",
            "=",
            ".",
            "\\",
            "%",
            "---\n",
            "? ",
            "\u{feff}",
            "\r\n",
            "\u{85}",
            "\u{2028}",
            "é",
            "😀",
            "\u{1b}",
            "\"\\e[2J\"",
            "s3://x",
            "*.png",
            "images",
            "score.py"
        ])
        .prop_map(String::from),
        "\\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}|[\\x00-\\x7f]{0,80}", flag in ".{0,30}") {
        check(&FOLDER, &text, &[flag]);
    }

    #[test]
    fn yaml_like_noise_never_panics(text in noise(), flag in noise()) {
        check(&FOLDER, &text, std::slice::from_ref(&flag));
        check(&FOLDER, &Folder::text(&text), &[format!("arguments={flag}")]);
    }

    #[test]
    fn any_value_of_any_key_never_panics(key in prop::sample::select(KEYS.iter().map(|key| key.name).collect::<Vec<_>>()), value in noise()) {
        check(&FOLDER, &Folder::text(&format!("{key}: {value}\n")), &[format!("{key}={value}")]);
    }
}
