//! Progress as a bar on a terminal.

use std::io::{Write, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use fanfold_shared::state::JobState;

use super::echo::Echo;
use super::{Progress, progress_in_words};
use crate::ledger::FailureRow;
use crate::report::{JobFacts, Pace, Snapshot};

/// One line at the bottom, which text is printed above of: as plain lines, since the library's own way pads each to the width of
/// the terminal, and whoever copies or records them gets the padding.
pub struct Bar {
    bar: ProgressBar,
    above: Box<dyn Write + Send>,
    echo: Echo,
}

impl Bar {
    /// A bar on stderr; with colours unless `NO_COLOR` is set.
    pub fn stderr(facts: &JobFacts) -> Bar {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Bar::on(ProgressDrawTarget::stderr(), Box::new(stderr()), colours, facts)
    }

    fn on(target: ProgressDrawTarget, above: Box<dyn Write + Send>, colours: bool, facts: &JobFacts) -> Bar {
        let bar = ProgressBar::with_draw_target(Some(1), target);
        let template = if colours { "[{bar:20.cyan/blue}] {wide_msg}" } else { "[{bar:20}] {wide_msg}" };
        bar.set_style(
            ProgressStyle::with_template(template).expect("the template is a constant").progress_chars("=> "),
        );
        let mut progress = Bar { bar, above, echo: Echo::new(&facts.id.0) };
        progress.note(&format!("Job {} in {}", facts.id, facts.dir.root().display()));
        if facts.settled_before > 0 {
            progress.note(&format!("Continues: {} mini-batches are settled already", facts.settled_before));
        }
        progress
    }

    fn say(&mut self, text: &str) {
        let Bar { bar, above, .. } = self;
        // The terminal may be gone; the job goes on.
        bar.suspend(|| drop(writeln!(above, "{text}").and_then(|()| above.flush())));
    }
}

impl Progress for Bar {
    fn observe(&mut self, snapshot: &Snapshot, pace: &Pace) {
        self.bar.set_length(snapshot.mini_batches_expected().max(1));
        self.bar.set_position(snapshot.totals.mini_batches_settled());
        self.bar.set_message(match snapshot.state {
            JobState::Running => progress_in_words(snapshot, pace),
            state => format!("{state}, {}", progress_in_words(snapshot, pace)),
        });
    }

    fn failure(&mut self, row: &FailureRow) {
        if let Some(text) = self.echo.failure(row) {
            self.say(&text);
        }
    }

    fn note(&mut self, text: &str) {
        self.say(&fanfold_shared::text::harmless(text));
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.bar.set_position(snapshot.totals.mini_batches_settled());
        // The summary that follows says all that the bar did.
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;
    use crate::report::{failure_fixture as failure, fixtures::*};

    /// A terminal that keeps all that was ever written to it, one entry for each piece.
    #[derive(Clone, Debug, Default)]
    struct Paper(Arc<Mutex<Vec<String>>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.trim_end().to_string());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What stands above the bar.
    #[derive(Clone, Default)]
    struct Above(Arc<Mutex<Vec<u8>>>);

    impl Write for Above {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bar_shows_the_figures_and_errors_stand_above_it() {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let above = Above::default();
        let mut bar = Bar::on(target, Box::new(above.clone()), false, &facts(Path::new("/jobs/score-1a2b3c4d")));
        let pace = Pace { items_per_second: 24.2, mini_batches_per_second: 12.1, eta_seconds: Some(13.0) };
        bar.observe(&running(), &pace);
        bar.failure(&failure(1, 16));
        bar.failure(&failure(2, 17));
        bar.finish(&running());
        let written = paper.0.lock().unwrap().clone();
        let of_bar = written.iter().rev().find(|text| text.starts_with('[')).unwrap();
        assert_eq!(
            of_bar,
            "[========>           ] 120 of 276 mini-batches (43 %), 240 of 551 items, 3 failed, 24 items/s, 13 s to go"
        );
        let above = String::from_utf8(above.0.lock().unwrap().clone()).unwrap();
        insta::assert_snapshot!(above, @r#"
        Job score-1a2b3c4d in /jobs/score-1a2b3c4d
        error: ValueError: bad pixel
          exception in mini-batch 16, attempt 3, node 0, process002
          Traceback: the long story
        "#);
    }
}
