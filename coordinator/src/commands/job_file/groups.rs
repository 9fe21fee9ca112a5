//! The keys as people look for them: what belongs together, and the page that says more.

/// Keys that belong together.
pub struct Group {
    /// Its heading.
    pub title: &'static str,
    /// What they are about, in a sentence.
    pub about: &'static str,
    /// Their names, each with the place in `docs/` that says more; empty where the reference says all.
    pub keys: &'static [(&'static str, &'static str)],
}

/// Every key stands in one of them.
pub static GROUPS: &[Group] = &[
    Group {
        title: "Data",
        about: "What the job runs over, and what one item of it is.",
        keys: &[
            ("inputs", "guide.md#what-it-runs-over"),
            ("input_type", "tables.md"),
            ("read_csv", "tables.md#how-csv-is-read"),
            ("partition_format", "tables.md#by-paths"),
            ("partition_keys", "tables.md#by-columns"),
            ("rank_mini_batch_count", "entry-script.md#what-it-gets"),
            ("side_inputs", "entry-script.md#what-it-gets"),
        ],
    },
    Group {
        title: "Script",
        about: "What runs, and under which name.",
        keys: &[
            ("name", ""),
            ("entry_script", "entry-script.md"),
            ("source_directory", "entry-script.md#what-it-gets"),
            ("arguments", "entry-script.md#what-it-gets"),
            ("models", "entry-script.md#what-it-gets"),
        ],
    },
    Group {
        title: "Output",
        about: "Where the results go, and what they look like.",
        keys: &[
            ("output", "output.md"),
            ("output_action", "entry-script.md#when-the-same-mini-batch-runs-twice"),
            ("append_row_file_name", "output.md"),
            ("append_row_dataframe_header", "output.md#text"),
            ("ordered", "output.md#in-the-order-of-the-input"),
            ("append_row_key", "output.md#with-the-key-of-each-item"),
        ],
    },
    Group {
        title: "Size, tries and failure",
        about: "How much one call gets, how long it may take, and how much may fail.",
        keys: &[
            ("mini_batch_size", "guide.md#sizes"),
            ("run_invocation_timeout", "failures.md#the-kinds-of-errorsjsonl"),
            ("run_max_try", "failures.md#what-counts"),
            ("on_failure", "failures.md#one-bad-item-in-a-mini-batch"),
            ("error_threshold", "failures.md#what-counts"),
            ("allowed_failed_count", "failures.md#what-counts"),
            ("allowed_failed_percent", "failures.md#what-counts"),
            ("task_overhead_timeout", "failures.md#the-kinds-of-errorsjsonl"),
            ("progress_update_timeout", "failures.md#why-a-job-is-failed"),
            ("first_task_creation_timeout", "failures.md#why-a-job-is-failed"),
        ],
    },
    Group {
        title: "Processes and GPUs",
        about: "How many run at once, and what each has.",
        keys: &[
            ("process_count_per_node", "sizing.md#workers"),
            ("gpus", "guide.md#processes-and-gpus"),
            ("surplus_processes", "guide.md#processes-and-gpus"),
        ],
    },
    Group {
        title: "Environment",
        about: "The Python that runs the script.",
        keys: &[
            ("environment", "guide.md#packages"),
            ("environment_variables", "security.md#what-a-script-on-a-worker-can-reach"),
        ],
    },
    Group {
        title: "Fleet",
        about: "Without meaning on one machine.",
        keys: &[
            ("compute_target", "fleet.md#pools"),
            ("node_count", "fleet.md#pools"),
            ("priority", "service.md#who-gets-the-workers"),
        ],
    },
    Group {
        title: "Logs",
        about: "What is written down beside the results.",
        keys: &[
            ("logging_level", "entry-script.md#what-it-gets"),
            ("resource_monitor_interval", "operations.md#where-to-look"),
            ("profiling_module", "guide.md#is-it-slow"),
        ],
    },
    Group { title: "Reuse", about: "The same job again.", keys: &[("allow_reuse", "reuse.md")] },
    Group {
        title: "Written by fanfold",
        about: "In the `job.yaml` of a job directory, for those who read it later. Leave them out of yours.",
        keys: &[("input_datasets", "datasets.md#in-a-job-file"), ("mltable", "mltable.md"), ("overrides", "")],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fanfold_shared::job::KEYS;

    use super::*;

    #[test]
    fn every_key_stands_in_one_group() {
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|group| group.keys).map(|(name, _)| *name).collect();
        let all: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(grouped.len(), all.len(), "a key stands in two groups");
    }
}
