//! `logs/readme.txt`.

use fanfold_shared::layout::Logs;

use super::replace_file;

/// Writes the page that explains the log tree. A page that can't be written is missed by nobody's program: no error.
pub fn write_readme(logs: &Logs) {
    let _ = replace_file(&logs.readme(), include_bytes!("readme.txt"));
}

#[cfg(test)]
mod tests {
    use fanfold_shared::ids::{NodeId, ProcessNumber};
    use fanfold_shared::layout::{JobDir, Stream};

    #[test]
    fn the_page_names_every_file_of_the_tree() {
        let page = include_str!("readme.txt");
        let logs = JobDir::new("/j").logs();
        let (node, process) = (NodeId("<node>".into()), ProcessNumber(0));
        for path in [
            logs.job_result(),
            logs.overview(None),
            logs.overview(Some("<yyyymmddhh>")),
            logs.user_errors(),
            logs.user_error(&node, process),
            logs.entry_script(&node, process),
            logs.user_stream(Stream::Stdout, &node, process),
            logs.user_stream(Stream::Stderr, &node, process),
            logs.master_role(),
            logs.environment_build(),
            logs.sys_error(&node, Some(process)),
            logs.process(&node, process),
            logs.descriptor(Stream::Stdout, &node, process),
            logs.profile(&node, process),
            logs.job_report("processed_mini-batches.csv"),
            logs.node_resources(&node),
            logs.node_disks(&node),
            logs.process_resources(&node),
            logs.process_lists(&node).join("<yyyymmddhh>/processes_<mm>"),
        ] {
            let name = path.strip_prefix(logs.root()).unwrap().to_str().unwrap().replace("process000", "<process>");
            assert!(page.contains(&name), "{name}");
        }
    }
}
