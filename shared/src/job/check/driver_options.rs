//! Options of the original's driver among a job's `arguments`. Only whole names count: a prefix or a slip is an argument
//! of the script, and stays one.

/// Those that are honoured: each sets the key of its name.
const HONOURED: [&str; 10] = [
    "resource_monitor_interval",
    "profiling_module",
    "append_row_dataframe_header",
    "error_threshold",
    "allowed_failed_percent",
    "task_overhead_timeout",
    "progress_update_timeout",
    "first_task_creation_timeout",
    "process_count_per_node",
    "rank_mini_batch_count",
];

/// Those that the driver passes by itself from their keys. The original refuses them among the arguments; taking them
/// for the script's own would let it see another value than the job runs with.
const RESERVED: [&str; 9] = [
    "mini_batch_size",
    "allowed_failed_count",
    "output",
    "output_action",
    "logging_level",
    "run_invocation_timeout",
    "run_max_try",
    "append_row_file_name",
    "partition_keys",
];

/// An option of the driver.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// It sets `key`; `value` is None if it has none.
    Sets { at: usize, key: &'static str, value: Option<&'a str> },
    /// It belongs to `key`.
    Reserved { at: usize, key: &'static str, value: Option<&'a str> },
}

/// The driver's options among `arguments`, with the position of each: `--name value` or `--name=value`.
pub(super) fn find<'a>(arguments: &'a [&'a str]) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < arguments.len() {
        let start = at;
        at += 1;
        let Some(option) = arguments[start].strip_prefix("--") else { continue };
        let (name, attached) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let named = |names: &'static [&'static str]| names.iter().copied().find(|known| *known == name);
        let honoured = named(&HONOURED);
        let reserved = named(&RESERVED);
        if honoured.is_none() && reserved.is_none() {
            continue;
        }
        let value = attached.or_else(|| {
            let next = arguments.get(at).copied().filter(|next| !next.starts_with("--"))?;
            at += 1;
            Some(next)
        });
        if let Some(key) = honoured {
            found.push(Found::Sets { at: start, key, value });
        } else if let Some(key) = reserved {
            found.push(Found::Reserved { at: start, key, value });
        }
    }
    found
}

/// `arguments` without the options that set keys: what is the script's alone.
pub(in crate::job) fn without(arguments: &[String]) -> Vec<String> {
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut mine = vec![true; texts.len()];
    for option in find(&texts) {
        if let Found::Sets { at, value, .. } = option {
            mine[at] = false;
            if value.is_some() && !texts[at].contains('=') {
                mine[at + 1] = false;
            }
        }
    }
    arguments.iter().zip(mine).filter(|(_, mine)| *mine).map(|(argument, _)| argument.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_count_and_nothing_else() {
        let arguments = ["--error_threshold", "-1", "--profiling_module=cProfile", "--model", "x"];
        assert_eq!(
            find(&arguments),
            [
                Found::Sets { at: 0, key: "error_threshold", value: Some("-1") },
                Found::Sets { at: 2, key: "profiling_module", value: Some("cProfile") },
            ]
        );
        let strangers =
            ["--resource_monitor_interva", "20", "--error", "5", "error_threshold", "-error_threshold", "--"];
        assert_eq!(find(&strangers), []);
    }

    #[test]
    fn an_option_does_not_swallow_the_next_one() {
        let arguments = ["--error_threshold", "--process_count_per_node", "2"];
        assert_eq!(
            find(&arguments),
            [
                Found::Sets { at: 0, key: "error_threshold", value: None },
                Found::Sets { at: 1, key: "process_count_per_node", value: Some("2") },
            ]
        );
    }

    #[test]
    fn the_rest_is_the_scripts() {
        let arguments = ["--a", "1", "--error_threshold", "5", "--b=2", "--profiling_module=cProfile", "c"];
        assert_eq!(without(&arguments.map(String::from)), ["--a", "1", "--b=2", "c"]);
    }
}
