//! Which failures are shown while a job runs: the first of each distinct error whole, then its count at 10, 100, 1000 …

use std::collections::HashMap;

use fanfold_shared::text::{grouped, harmless, one_line};

use crate::ledger::FailureRow;

/// Distinct errors that are shown whole; after that many the user knows where to look.
const SHOWN: usize = 10;
/// Lines of one traceback, the last ones.
const TRACEBACK: usize = 30;
/// Lines of captured stderr, the last ones.
const STDERR: usize = 30;

/// Remembers what was shown. Bounded, whatever fails.
#[derive(Debug)]
pub(super) struct Echo {
    job_id: String,
    counts: HashMap<i64, u64>,
    /// Whether it was said that there are more distinct errors than are shown.
    closed: bool,
}

impl Echo {
    pub(super) fn new(job_id: &str) -> Echo {
        Echo { job_id: job_id.into(), counts: HashMap::new(), closed: false }
    }

    /// What to show for `row`, without a newline at its end; None: nothing.
    pub(super) fn failure(&mut self, row: &FailureRow) -> Option<String> {
        if let Some(count) = self.counts.get_mut(&row.group) {
            *count += 1;
            // A power of ten: 10, 100, 1000 …
            let told = 10u64.checked_pow(count.ilog10()) == Some(*count);
            return told.then(|| format!("error: {} times: {}", grouped(*count), one_line(&row.message, 200)));
        }
        if self.counts.len() >= SHOWN {
            let first = !std::mem::replace(&mut self.closed, true);
            return first.then(|| format!("More distinct errors; see them with: fanfold errors {}", self.job_id));
        }
        self.counts.insert(row.group, 1);
        let process = row.process.map(|process| format!(", {process}")).unwrap_or_default();
        let whose = match row.mini_batch {
            Some(mini_batch) => format!("in mini-batch {mini_batch}, attempt {}, node", row.attempt),
            None => "on node".to_string(),
        };
        let mut text = format!(
            "error: {}\n  {} {whose} {}{process}{}",
            harmless(row.message.trim_end()).replace('\n', "\n  "),
            row.kind.name(),
            row.node,
            if row.settled { "" } else { "; it is tried again" },
        );
        push_last(&mut text, row.traceback.as_deref().unwrap_or(""), TRACEBACK, "  ");
        push_last(&mut text, &row.stderr, STDERR, "  stderr: ");
        Some(text)
    }
}

fn push_last(text: &mut String, lines: &str, count: usize, indent: &str) {
    let lines: Vec<&str> = lines.trim_end().lines().collect();
    for line in &lines[lines.len().saturating_sub(count)..] {
        text.push('\n');
        text.push_str(indent);
        text.push_str(&harmless(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::failure_fixture as failure;

    #[test]
    fn the_first_of_each_error_is_whole_and_the_others_are_counted() {
        let mut echo = Echo::new("score-1a2b3c4d");
        let mut shown: Vec<String> = (0..1000).filter_map(|i| echo.failure(&failure(i, i as u64))).collect();
        let mut other = FailureRow { group: 2, settled: false, process: None, ..failure(7, 7) };
        other.stderr = "\x1b[31mgone".into();
        shown.extend(echo.failure(&other));
        insta::assert_snapshot!(shown.join("\n"), @r#"
        error: ValueError: bad pixel
          exception in mini-batch 0, attempt 3, node 0, process002
          Traceback: the long story
        error: 10 times: ValueError: bad pixel
        error: 100 times: ValueError: bad pixel
        error: 1,000 times: ValueError: bad pixel
        error: ValueError: bad pixel
          exception in mini-batch 7, attempt 3, node 0; it is tried again
          Traceback: the long story
          stderr: \x1b[31mgone
        "#);
    }

    #[test]
    fn a_script_that_fails_in_every_way_does_not_fill_the_screen() {
        let mut echo = Echo::new("score-1a2b3c4d");
        let shown: Vec<String> =
            (0..1000).filter_map(|i| echo.failure(&FailureRow { group: i, ..failure(i, 0) })).collect();
        assert_eq!(shown.len(), SHOWN + 1);
        assert_eq!(shown[SHOWN], "More distinct errors; see them with: fanfold errors score-1a2b3c4d");
    }
}
