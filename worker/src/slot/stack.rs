//! The stacks that Python's faulthandler writes to stderr: when a process dies of a signal, and when it is asked where it
//! hangs.
//!
//! What is shown of them to users is the script's part of the thread concerned: frames of the host and addresses say nothing
//! and differ in every process, idle threads of libraries may fill pages. The whole text stays in the process's log.

use std::path::Path;

/// Frames of the thread concerned, the innermost ones; one that repeats itself counts once.
const FRAMES: usize = 40;

/// How frames of the host and of the script begin.
pub struct Dirs {
    of_host: String,
    of_script: String,
}

impl Dirs {
    /// `host` is the host program, `working_dir` where the script runs.
    pub fn new(host: &Path, working_dir: &Path) -> Dirs {
        let begin = |dir: &Path| format!("  File \"{}/", dir.display());
        Dirs { of_host: begin(host.parent().unwrap_or(host)), of_script: begin(working_dir) }
    }

    /// A frame as the host tells tracebacks: none of its own, and files named as the user knows them.
    fn told(&self, frame: &str) -> Option<String> {
        match frame.strip_prefix(&self.of_script) {
            Some(rest) => Some(format!("  File \"{rest}")),
            None => (!frame.starts_with(&self.of_host)).then(|| frame.to_string()),
        }
    }
}

/// `stderr` with its last stack made short, moved to the end; and that stack alone, empty if there is none.
pub fn tidy(stderr: &str, dirs: &Dirs) -> (String, String) {
    let lines: Vec<&str> = stderr.lines().collect();
    let Some(last) = lines.iter().rposition(|line| is_head(line)) else { return (stderr.to_string(), String::new()) };
    let end = (last + 1..lines.len()).find(|i| !belongs(lines[*i])).unwrap_or(lines.len());
    let begin = (0..last).rev().take_while(|i| belongs(lines[*i])).last().unwrap_or(last);
    // Indented lines before the first head are somebody else's.
    let begin = (begin..last).find(|i| is_head(lines[*i]) || lines[*i].starts_with(FATAL)).unwrap_or(last);

    let concerned = (begin..end).rfind(|i| is_head(lines[*i]) && !lines[*i].starts_with("Thread ")).unwrap_or(last);
    let mut stack: Vec<String> =
        lines[begin..end].iter().filter(|line| line.starts_with(FATAL)).map(|line| line.to_string()).collect();
    stack.push("Current thread (most recent call first):".into());
    let frames = lines[concerned + 1..end].iter().take_while(|line| line.starts_with("  "));
    let frames: Vec<String> = frames.filter_map(|line| dirs.told(line)).collect();
    for same in frames.chunk_by(|a, b| a == b).take(FRAMES) {
        stack.push(same[0].clone());
        if same.len() > 1 {
            stack.push(format!("  [{} more times]", same.len() - 1));
        }
    }
    let stack = stack.join("\n");

    let mut text = [&lines[..begin], &lines[end..]].concat().join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&stack);
    (text, stack)
}

const FATAL: &str = "Fatal Python error: ";

/// The line above the frames of a thread.
fn is_head(line: &str) -> bool {
    line.ends_with("(most recent call first):")
        && ["Current thread", "Thread 0x", "Stack "].iter().any(|head| line.starts_with(head))
}

fn belongs(line: &str) -> bool {
    is_head(line)
        || line.starts_with("  ")
        || line.starts_with(FATAL)
        || ["Python runtime state: ", "Extension modules: ", "<no Python frame>", "<Cannot show all threads"]
            .iter()
            .any(|beginning| line.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(stderr: &str) -> (String, String) {
        tidy(stderr, &Dirs::new(Path::new("/job/python/fanfold_host.py"), Path::new("/job/copy")))
    }

    #[test]
    fn a_stack_is_the_scripts_part_of_the_thread_concerned_and_stands_last() {
        let stderr = "loading\n  in steps\n\
            Fatal Python error: Segmentation fault\n\
            Thread 0x00007f5f98e2f041 (most recent call first):\n  File \"/usr/lib/threading.py\", line 320 in wait\n\
            Current thread 0x00007f5f98e2f040 (most recent call first):\n\
            \x20 File \"/usr/lib/ctypes/__init__.py\", line 519 in string_at\n\
            \x20 File \"/job/copy/score.py\", line 7 in run\n\
            \x20 File \"/job/python/_fanfold/loop.py\", line 113 in _run_frame\n\
            Extension modules: numpy._core (total: 1)\n\
            what another writer says";
        let (text, stack) = tidied(stderr);
        assert_eq!(
            stack,
            "Fatal Python error: Segmentation fault\n\
             Current thread (most recent call first):\n\
             \x20 File \"/usr/lib/ctypes/__init__.py\", line 519 in string_at\n\
             \x20 File \"score.py\", line 7 in run"
        );
        assert_eq!(text, format!("loading\n  in steps\nwhat another writer says\n{stack}"));
    }

    #[test]
    fn text_without_a_stack_stays_as_it_is() {
        for text in ["", "  indented\nThread safety is hard", "Fatal Python error: but no stack"] {
            assert_eq!(tidied(text), (text.to_string(), String::new()));
        }
    }

    #[test]
    fn the_last_stack_counts_and_a_deep_one_is_cut_at_its_outer_end() {
        let deep: String = (0..100).map(|i| format!("  File \"score.py\", line {i} in f\n")).collect();
        let one = "Stack (most recent call first):\n  File \"score.py\", line 1 in init\n";
        let (text, stack) =
            tidied(&format!("{one}between\nCurrent thread 0x1 [main] (most recent call first):\n{deep}"));
        assert_eq!(stack.lines().count(), 1 + FRAMES);
        let (_, recursion) = tidied(&format!("{one}{}", "  File \"score.py\", line 2 in f\n".repeat(98)));
        assert!(recursion.ends_with("line 2 in f\n  [97 more times]"), "{recursion}");
        assert!(stack.contains("line 39 in f") && !stack.contains("line 40 in f"));
        assert_eq!(text, format!("{one}between\n{stack}"));
    }
}
